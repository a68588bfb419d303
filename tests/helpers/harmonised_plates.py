"""Plates of another lab, made of those that tests share, and the filters that harmonise them."""

from pathlib import Path

import numpy as np
from coda.crops.harmonisation import bin_width, harmonise, measure_spectra, save_harmonisations
from coda.crops.store import CropStore, CropWriter
from scipy.ndimage import gaussian_filter


def rewritten(path: str, out: Path, change) -> str:
    """Write a plate again; `change` takes metadata and pixels (C, H, W) of a crop and gives both anew."""
    store = CropStore([path])
    size = store.height, store.width
    with CropWriter(out, store.channels, *size, store.settings) as writer:
        for number, row in enumerate(store.table.to_dict("records")):
            metadata, pixels = change(row, store.view(number))
            writer.write(metadata, pixels[None])
    return str(out)


def blurred_lab(plates: list[str], folder: Path, source: str = "source_2") -> list[str]:
    """Plates as a lab with a blurred microscope would have them."""

    def change(row, pixels):
        blurred = gaussian_filter(pixels.astype(float), (0, 1, 1))
        return row | {"Metadata_Source": source}, np.round(blurred).astype(np.uint8)

    return [rewritten(path, folder / Path(path).name, change) for path in plates]


def save_filters(target: list[str], training: list[str], path: Path, **options) -> str:
    """Fit the filters of the target's plates, as the workflow does, and write them."""
    width = bin_width([1.0], 48)
    spectra = [
        [measure_spectra(CropStore([plate]), width) for plate in plates]
        for plates in (target, training)
    ]
    save_harmonisations([harmonise(plate, spectra[1], **options) for plate in spectra[0]], path)
    return str(path)
