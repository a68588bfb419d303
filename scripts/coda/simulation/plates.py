"""Simulate plates: draw every site, write its images, and list them as the gallery does."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from scipy.fft import next_fast_len

from coda.errors import UserError
from coda.parallel import spread
from coda.progress import track
from coda.simulated_gallery import GALLERY
from coda.simulation.cells import CHANNELS, Cells, draw, place_nuclei
from coda.simulation.loaddata import illum_folder, illum_name, write_load_data
from coda.simulation.names import Plate, file_names, plates_of, thumbnail_name, well_names
from coda.simulation.nuclei import write_nuclei
from coda.simulation.optics import expose, illumination, imaging, margin_pixels
from coda.simulation.tables import write_tables
from coda.simulation.world import (
    Compound,
    cell_traits,
    generator,
    make_compounds,
    plan_wells,
    well_traits,
)

CELLS_PER_MM2 = 640
THUMBNAIL_STEP = 8


def simulate_gallery(folder: Path, settings: dict, seed: int, processes: int = 1) -> None:
    """Write a simulated Cell Painting Gallery and the tables that go with it.

    Every site has random numbers of its own, keyed by its names: the images do not depend on the
    number of processes, on the order of the work or on which other plates are simulated.

    Parameters
    ----------
    folder
        Gets ``cellpainting-gallery/cpg0016-jump/<source>/...`` and ``tables/``.
    settings
        ``sources`` ({source: {batches, plates_per_batch}}), ``image_size`` (pixels, or None for
        the source's real size divided by the binning), ``binning`` (um per simulated pixel over um
        per pixel of the source), ``moas``, ``compounds_per_moa``, ``wells_per_compound``,
        ``dmso_wells``, ``unlabelled_compounds``, ``sites_per_well`` (None for the source's own),
        ``effect`` ([least, most] units by which a MoA moves a trait), ``nuclei`` (whether to write
        the true nucleus centres).
    seed
        The seed of the world.
    processes
        Number of processes that draw.

    Raises
    ------
    UserError
        If a source is unknown or a plate has too few wells for the samples.
    """
    folder = Path(folder)
    root = folder / GALLERY
    plates = plates_of(settings["sources"])
    compounds = make_compounds(settings, seed)
    samples = (len(compounds) - 1) * settings["wells_per_compound"] + settings["dmso_wells"]
    if samples > 384:
        raise UserError(
            f"The simulation needs {samples} wells per plate and a plate has 384: "
            "lower simulation: moas, compounds_per_moa, wells_per_compound or dmso_wells."
        )
    work = [
        (plate, well, compound)
        for plate in plates
        for well, compound in plan_wells(
            compounds, settings, well_names(plate.style.grid), seed
        ).items()
    ]
    for plate in plates:
        (root / plate.folder).mkdir(parents=True, exist_ok=True)
    found: dict[Plate, list[dict]] = {plate: [] for plate in plates}
    wells = spread(simulate_well, work, (settings, seed, root), processes)
    for (plate, _, _), sites in zip(
        work, track(wells, "simulate", len(work), "wells"), strict=True
    ):
        found[plate] += sites
    for plate, sites in found.items():
        write_illumination(plate, settings, seed, root)
        if settings["nuclei"]:
            write_nuclei(plate, sites, root)
        write_load_data(plate, pd.DataFrame(sites), root)
    write_tables(folder / "tables", plates, compounds, settings, seed)


def simulate_well(state: tuple[dict, int, Path], job: tuple[Plate, str, Compound]) -> list[dict]:
    """Draw and write all sites of a well.

    Parameters
    ----------
    state
        Settings, seed and gallery root.
    job
        Plate, well and compound.

    Returns
    -------
    list of dict
        Per site: ``Metadata_Well``, ``Metadata_Site``, the file name of each channel, and
        ``nuclei``, the true centres (x, y) in pixels of the nuclei in the image.
    """
    (settings, seed, root), (plate, well, compound) = state, job
    mean = well_traits(compound, plate.source, plate.plate, well, seed)
    rows = []
    for site in range(settings["sites_per_well"] or plate.style.sites):
        images, nuclei = simulate_site(plate, well, site, mean, settings, seed)
        names = file_names(plate, well, site, seed)
        for image, name in zip(images, names.values(), strict=True):
            write_tiff(image, root / plate.folder / name, plate.style.compression)
            if plate.style.file == "metaxpress":
                small = np.ascontiguousarray(image[::THUMBNAIL_STEP, ::THUMBNAIL_STEP])
                write_tiff(small, root / plate.folder / thumbnail_name(name, plate, seed), None)
        rows.append(
            {
                "Metadata_Well": well,
                "Metadata_Site": site + plate.style.first_site,
                **names,
                "nuclei": nuclei,
            }
        )
    return rows


def simulate_site(
    plate: Plate, well: str, site: int, mean: np.ndarray, settings: dict, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one site.

    The cells and the camera have separate random numbers, and only the traits carry the compound.

    Parameters
    ----------
    plate, well, site
        Which site; sites count from 0.
    mean
        Mean traits of the well in units, ``(17,)``.
    settings, seed
        As for `simulate_gallery`.

    Returns
    -------
    images
        uint16 ``(5, height, width)`` in the order of `CHANNELS`.
    nuclei
        True centres (x, y) in pixels of the nuclei inside the image, float ``(n, 2)``.
    """
    setup = imaging(plate.source, plate.batch, plate.plate, seed, plate.lab)
    pixel_um = setup.microscope.pixel_um * settings["binning"]
    height, width = image_shape(plate, settings)
    margin = margin_pixels(pixel_um)
    drawn = (
        next_fast_len(height + 2 * margin, real=True),
        next_fast_len(width + 2 * margin, real=True),
    )
    key = (plate.source, plate.plate, well, site)
    random = generator(seed, "cells", *key)
    # Larger cells are drawn as ordinary ones on a smaller field, as many as the field has room for at its density.
    cell_um = pixel_um / plate.lab.cell_size
    density = CELLS_PER_MM2 * setup.microscope.density * plate.lab.cell_size**2
    spots = place_nuclei(drawn[0] * cell_um, drawn[1] * cell_um, density, random)
    angle = random.uniform(0, 2 * np.pi, len(spots)).astype(np.float32)
    cells = Cells(spots[:, 1], spots[:, 0], angle, cell_traits(mean, len(spots), random))
    light = draw(cells, drawn, cell_um, random)
    field = site_illumination(plate, (height, width), seed)
    images = expose(light, setup, field, pixel_um, generator(seed, "camera", *key))
    centres = spots[:, ::-1] / cell_um - margin
    inside = (centres >= 0).all(axis=1) & (centres < (width - 1, height - 1)).all(axis=1)
    return images, centres[inside]


@lru_cache(maxsize=4)
def site_illumination(plate: Plate, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Illumination fields of a plate, kept for its next site."""
    return illumination(imaging(plate.source, plate.batch, plate.plate, seed, plate.lab), shape)


def image_shape(plate: Plate, settings: dict) -> tuple[int, int]:
    """Height and width of the images of a plate in pixels."""
    if settings["image_size"] is not None:
        return settings["image_size"], settings["image_size"]
    height, width = plate.style.size
    return round(height / settings["binning"]), round(width / settings["binning"])


def write_tiff(image: np.ndarray, path: os.PathLike, compression: str | None) -> None:
    """Write a 16-bit TIFF as the source's software does, compressed or not."""
    predictor = compression is not None
    tifffile.imwrite(
        path, image, compression=compression, predictor=predictor, metadata=None, software=False
    )


def write_illumination(plate: Plate, settings: dict, seed: int, root: Path) -> None:
    """Write the true illumination fields of a plate as the gallery's illumination functions."""
    folder = root / illum_folder(plate)
    folder.mkdir(parents=True, exist_ok=True)
    fields = site_illumination(plate, image_shape(plate, settings), seed)
    for channel, field in zip(CHANNELS, fields, strict=True):
        np.save(folder / illum_name(plate, channel), field)
