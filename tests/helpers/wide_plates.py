"""The tiny plates with crops of 64 pixels, the least that a convolutional network takes."""

from pathlib import Path

import numpy as np
from coda.crops.store import CropStore, CropWriter

SIZE = 64
MODEL = {"architecture": "resnet18", "options": {}, "weights": "random", "convolutional": True}


def widened(plates, folder):
    """Write each plate with its crops repeated beyond their edges."""
    made = []
    for path in plates:
        store = CropStore([path])
        wide = np.pad(
            store.gather(np.arange(len(store))), ((0, 0), (0, 0), (0, 16), (0, 16)), "wrap"
        )
        made.append(str(folder / Path(path).name))
        with CropWriter(made[-1], store.channels, SIZE, SIZE, {"um_per_pixel": 1.0}) as writer:
            for site, pixels in zip(store.table.to_dict("records"), wide, strict=True):
                kept = {
                    name: value
                    for name, value in site.items()
                    if name.startswith(("Metadata_", "Quality_"))
                }
                writer.write(kept, pixels[None])
    return made
