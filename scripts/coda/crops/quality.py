"""Quality of raw fields of view: measures, flags, and the table of a plate's sites.

All measures come from the raw image, before correction and stretching, which would hide a dim or
a saturated field. Flagged sites keep their crops; training leaves them out by ``Quality_ok``.
"""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu

from coda.crops.site_images import NO_CROP, SITE
from coda.files import write_table
from coda.gallery.input_warnings import keep_warnings

# Wavelengths, in pixels, between which the power spectrum is fitted: longer ones are the layout
# of the cells, shorter ones the noise of the camera.
WAVELENGTHS = (50.0, 5.0)
COARSE = 2  # nuclei are counted on the image binned by this
SMALLEST_NUCLEUS = 12  # binned pixels: 5 um across at 0.65 um per pixel, 10 um at 1.3
# The halves of Gaussian noise lie 2.6 standard deviations of the lower half apart.
DISTINCT = 3.5
NUCLEI_MEASURES = ["Cells", "Foreground", "NucleusArea", "CropCells"]
CHANNEL_MEASURES = ["Focus", "Saturation", "Background", "Contrast"]


def measure_channel(image: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Measure one raw image.

    Parameters
    ----------
    image
        Grey values (H, W), uint16.
    counts
        Its histogram, one bin per grey value.

    Returns
    -------
    dict
        ``Focus``: slope of the log power spectrum over log frequency along the rows (Field 1987;
        CellProfiler's PowerLogLogSlope is its two-dimensional form), the lower the more blurred.
        ``Saturation``: share of pixels at the highest value that occurs (CellProfiler's
        PercentMaximal as a share), which needs no knowledge of the camera's bit depth.
        ``Background``: 5th percentile, grey values.
        ``Contrast``: distance from the background to the 99.9th percentile over the background.
    """
    cumulated = np.cumsum(counts)
    background, bright = np.searchsorted(cumulated, [0.05 * image.size, 0.999 * image.size])
    highest = np.searchsorted(cumulated, image.size)
    return {
        "Focus": spectrum_slope(image),
        "Saturation": counts[highest] / image.size,
        "Background": float(background),
        "Contrast": (bright - background) / max(background, 1),
    }


def spectrum_slope(image: np.ndarray) -> float:
    """Slope of log power over log frequency, along every eighth row, mean removed.

    Every eighth row is enough (135 rows of 1080 pixels) and keeps this below a millisecond.
    """
    rows = image[::8].astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows *= np.hanning(rows.shape[1]).astype(np.float32)
    power = (np.abs(np.fft.rfft(rows)) ** 2).mean(axis=0)
    frequency = np.fft.rfftfreq(rows.shape[1])
    within = (frequency >= 1 / WAVELENGTHS[0]) & (frequency <= 1 / WAVELENGTHS[1])
    if within.sum() < 2 or not power[within].all():
        return float("nan")
    # Octaves count alike: without weights the many high frequencies would decide alone.
    weights = np.sqrt(1 / frequency[within])
    return float(np.polyfit(np.log(frequency[within]), np.log(power[within]), 1, w=weights)[0])


def find_nuclei(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nuclei of a raw DNA image, coarsely.

    The image is binned, thresholded by Otsu's method and labelled; touching nuclei count as one.
    A threshold also splits pure noise, so the two sides must lie `DISTINCT` standard deviations of
    the darker side apart, else there is no nucleus.

    Returns
    -------
    centres, areas
        float64 (n, 2), y and x in pixels of the image, and (n,) in its pixels.
    """
    height, width = (side // COARSE * COARSE for side in image.shape)
    if not height * width:
        return np.empty((0, 2)), np.empty(0)
    rows = sum(image[row:height:COARSE, :width].astype(np.float32) for row in range(COARSE))
    binned = sum(rows[:, column::COARSE] for column in range(COARSE))
    bright = binned > threshold_otsu(binned)
    if (
        not bright.any()
        or binned[bright].mean() - binned[~bright].mean() < DISTINCT * binned[~bright].std()
    ):
        return np.empty((0, 2)), np.empty(0)
    labels, found = ndimage.label(bright)
    sizes = np.bincount(labels.ravel(), minlength=found + 1)
    sizes[0] = 0
    large = np.flatnonzero(sizes >= SMALLEST_NUCLEUS)
    centres = np.array(ndimage.center_of_mass(bright, labels, large)).reshape(-1, 2)
    return (centres + 0.5) * COARSE - 0.5, sizes[large] * float(COARSE**2)


def measure_nuclei(image: np.ndarray, crop: float | None = None) -> dict[str, float]:
    """Measure the nuclei of a raw DNA image.

    Parameters
    ----------
    image
        Grey values (H, W).
    crop
        Side of the one crop from its centre, in its pixels; None where crops are others.

    Returns
    -------
    dict
        ``Cells``: number of nuclei. ``Foreground``: share of the field that they cover. ``NucleusArea``: their median
        area in pixels. ``CropCells``: how many have their centre in the crop. NaN where there is nothing to measure.
    """
    centres, areas = find_nuclei(image)
    binned = np.array(image.shape) // COARSE
    middle = (np.array(image.shape) - 1) / 2
    inside = float("nan")
    if crop is not None:
        inside = float((np.abs(centres - middle) < crop / 2).all(axis=1).sum())
    return {
        "Cells": float(len(areas)),
        "Foreground": float(areas.sum() / COARSE**2 / max(1, binned.prod())),
        "NucleusArea": float(np.median(areas)) if len(areas) else float("nan"),
        "CropCells": inside,
    }


def measure_site(
    images: Sequence[np.ndarray],
    counts: Sequence[np.ndarray],
    channels: Sequence[str],
    crop: float | None = None,
) -> dict[str, float]:
    """Measure one site: ``Quality_<measure>_<channel>``, and nuclei where DNA is a channel (`measure_nuclei`)."""
    measures = {}
    for image, bins, channel in zip(images, counts, channels, strict=True):
        for name, value in measure_channel(image, bins).items():
            measures[f"Quality_{name}_{channel}"] = float(value)
    found = dict.fromkeys(NUCLEI_MEASURES, float("nan"))
    if "DNA" in channels:
        found = measure_nuclei(images[list(channels).index("DNA")], crop)
    return measures | {f"Quality_{name}": value for name, value in found.items()}


def flag_sites(sites: pd.DataFrame, channels: Sequence[str], limits: dict) -> pd.DataFrame:
    """Say which sites are blurred, saturated, blank or empty.

    Parameters
    ----------
    sites
        One row per site of one plate, with the columns of `measure_site`.
    channels
        The channels to judge.
    limits
        A limit of None switches its flag off.
        ``blurred``: robust standard deviations (1.4826 MAD, at least 0.1) that the focus of a
        channel may lie below the plate's median; relative to the plate, since microscopes differ.
        ``saturated``: highest share of pixels at the highest value.
        ``blank``: lowest contrast.
        ``cells``: lowest number of nuclei in the crop or, where a site has several crops, in the site.

    Returns
    -------
    pandas.DataFrame
        ``Quality_Flags`` (text such as ``"blurred DNA; saturated Mito"``, empty if none) and
        ``Quality_ok``, with the index of `sites`.
    """
    flags = {row: [] for row in sites.index}

    def mark(wrong: pd.Series, word: str) -> None:
        for row in sites.index[wrong]:
            flags[row].append(word)

    for channel in channels:
        focus = sites[f"Quality_Focus_{channel}"]
        if limits["blurred"] is not None:
            spread = max(1.4826 * (focus - focus.median()).abs().median(), 0.1)
            mark(focus < focus.median() - limits["blurred"] * spread, f"blurred {channel}")
        if limits["saturated"] is not None:
            mark(
                sites[f"Quality_Saturation_{channel}"] > limits["saturated"], f"saturated {channel}"
            )
        if limits["blank"] is not None:
            mark(sites[f"Quality_Contrast_{channel}"] < limits["blank"], f"blank {channel}")
    if limits["cells"] is not None:
        seen = sites["Quality_CropCells"].fillna(sites["Quality_Cells"])
        mark(seen < limits["cells"], "few cells")
    texts = pd.Series(["; ".join(flags[row]) for row in sites.index], sites.index, dtype=object)
    return pd.DataFrame({"Quality_Flags": texts, "Quality_ok": texts == ""})


def inspect_plate(
    index: pd.DataFrame,
    sites: pd.DataFrame,
    crops: pd.DataFrame,
    channels: Sequence[str],
    limits: dict,
    out: str | os.PathLike,
    warnings: Sequence[str] = (),
) -> pd.DataFrame:
    """Write the status of every site of a plate, lost sites included.

    Parameters
    ----------
    index
        The plate's index, one row per site.
    sites
        ``Illumination.sites``: status, reason and measures of each site.
    crops
        ``CropStore.table`` of the plate.
    channels, limits
        As in `flag_sites`.
    out
        The Parquet file to make.
    warnings
        What a reader should know of the plate, kept in the file (`coda.gallery.input_warnings`).

    Returns
    -------
    pandas.DataFrame
        One row per row of `index`, in its order: its ``Metadata_*`` columns, ``status`` (``"ok"`` or why
        not in a word), ``reason``, ``crops`` (how many) and the ``Quality_*`` columns.
    """
    table = index[[name for name in index if name.startswith("Metadata_")]]
    sites = sites.copy()
    ok = sites["status"] == "ok"
    sites = sites.join(flag_sites(sites[ok], channels, limits))
    counts = crops.groupby(SITE).size().rename("crops").reset_index()
    table = table.merge(sites, on=SITE, how="left", validate="1:1")
    table = table.merge(counts, on=SITE, how="left", validate="1:1")
    table["crops"] = table["crops"].fillna(0).astype(int)
    without = (table["status"] == "ok") & (table["crops"] == 0)
    table.loc[without, "status"] = NO_CROP
    table.loc[without, "reason"] = "no crop could be cut; the log of extract_crops says why"
    table["Quality_ok"] = table["Quality_ok"].eq(True) & (table["status"] == "ok")
    write_table(keep_warnings(table, list(warnings)), out)
    return table
