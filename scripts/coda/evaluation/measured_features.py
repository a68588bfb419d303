"""Features of cells as CellProfiler measures them, by cp_measure: what Cell Painting read before networks did.

Nuclei are segmented in the DNA channel, cells are what lies nearest to them. Areas, shapes, intensities, textures,
granularity and correlations of channels are means over the cells of a site.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from cp_measure.bulk import get_core_measurements, get_correlation_measurements
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.segmentation import expand_labels, watershed

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.progress import track

PREFIXES = ("Nuclei_", "Cells_")
COUNT = "Cells_Count"
# In um: what is smoothed away before nuclei are looked for, the least distance between the middles of two nuclei, the
# least and greatest diameter of a nucleus, and how far a cell reaches beyond its nucleus.
BLUR, APART, SMALLEST, LARGEST, REACH = 1.0, 7.0, 5.0, 40.0, 10.0
# Measured on every channel, and on the outlines. Zernike moments of intensity and Costes' thresholds take most of the
# time of all together, and say little more.
ON_CHANNELS = ("intensity", "texture", "granularity", "radial_distribution")
GREY_LEVELS = 64  # of textures: 14 times as fast as with CellProfiler's 256
ON_OUTLINES = ("sizeshape", "zernike")
ON_PAIRS = ("pearson", "manders_fold", "rwc")


def measured_features(store: CropStore) -> pd.DataFrame:
    """Measure the cells of every crop.

    Parameters
    ----------
    store
        Crops with a channel named DNA, and their pixel size.

    Returns
    -------
    pandas.DataFrame
        The ``Metadata_*`` columns of the store and its ``Quality_ok``, then `COUNT` and the means over cells,
        ``Nuclei_*`` and ``Cells_*``; NaN where a crop has no cell or a feature is not defined.

    Raises
    ------
    UserError
        If there is no channel DNA, or no pixel size.
    """
    if "DNA" not in store.channels:
        raise UserError(
            "Measured features need nuclei, but no channel is named DNA; take the methods measured* out of methods."
        )
    um_per_pixel = store.settings.get("um_per_pixel")
    if not um_per_pixel:
        raise UserError(
            f"The pixel size of {store.paths[0]} is unknown, so nuclei cannot be told from debris; "
            "set sources.<source>.um_per_pixel."
        )
    rows = []
    for index in track(range(len(store)), "measuring", len(store), "crops"):
        pixels = store.gather(np.array([index]))[0]
        rows.append(measure_cells(pixels, store.channels, um_per_pixel))
    known = store.table.filter(regex="^Metadata_|^Quality_ok$").reset_index(drop=True)
    measured = pd.DataFrame(rows, index=known.index).astype(np.float32)
    return pd.concat([known, measured], axis=1)


def segment_nuclei(dna: np.ndarray, um_per_pixel: float) -> np.ndarray:
    """Segment nuclei by Otsu's threshold, those that touch by a watershed from the middles of each.

    Parameters
    ----------
    dna
        (height, width) image of the DNA stain.
    um_per_pixel
        Size of a pixel.

    Returns
    -------
    numpy.ndarray
        (height, width) int32: 0 outside, 1, 2, ... within the nuclei.
    """
    smooth = ndimage.gaussian_filter(dna.astype(np.float32), BLUR / um_per_pixel)
    if smooth.min() == smooth.max():
        return np.zeros(dna.shape, np.int32)
    nuclei = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(nuclei), BLUR / um_per_pixel)
    middles = peak_local_max(
        depth, min_distance=max(1, round(APART / um_per_pixel)), labels=label(nuclei), exclude_border=False
    )  # fmt: skip
    markers = np.zeros(dna.shape, np.int32)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    found = watershed(-depth, markers, mask=nuclei)
    kept = np.zeros(dna.shape, np.int32)
    areas = [np.pi * (diameter / um_per_pixel) ** 2 / 4 for diameter in (SMALLEST, LARGEST)]
    wanted = [region for region in regionprops(found) if areas[0] <= region.area <= areas[1]]
    for number, region in enumerate(wanted, 1):
        kept[tuple(region.coords.T)] = number
    return kept


def measure_cells(pixels: np.ndarray, channels: list[str], um_per_pixel: float) -> dict[str, float]:
    """Measure the cells of one crop, (channels, height, width) uint8; means over cells by the name of the feature."""
    nuclei = segment_nuclei(pixels[channels.index("DNA")], um_per_pixel)
    if not nuclei.any():
        return {COUNT: 0.0}
    cells = expand_labels(nuclei, REACH / um_per_pixel)
    measured = {COUNT: float(nuclei.max())}
    for name, values in _features(pixels, channels, {"Nuclei": nuclei, "Cells": cells}):
        values = np.asarray(values, np.float64)
        there = values[np.isfinite(values)]
        measured[name] = float(there.mean()) if len(there) else np.nan
    return measured


def _features(
    pixels: np.ndarray, channels: list[str], objects: dict[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Give each feature by its name, with its values over the objects."""
    core, pairs = get_core_measurements(), get_correlation_measurements()
    core["texture"] = partial(core["texture"], gray_levels=GREY_LEVELS)
    with np.errstate(all="ignore"):
        for kind, outlines in objects.items():
            for measure in ON_OUTLINES:
                for feature, values in core[measure](outlines, pixels[0]).items():
                    yield f"{kind}_AreaShape_{feature}", values
        cells = objects["Cells"]
        for number, channel in enumerate(channels):
            for measure in ON_CHANNELS:
                for feature, values in core[measure](cells, pixels[number]).items():
                    yield f"Cells_{feature}_{channel}", values
            for other in range(number):
                for measure in ON_PAIRS:
                    found = pairs[measure](pixels[other], pixels[number], cells)
                    for feature, values in found.items():
                        yield f"Cells_{feature}_{channels[other]}_{channel}", values
