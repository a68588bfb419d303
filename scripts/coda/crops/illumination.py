"""Illumination statistics of a plate: DeepProfiler's own, gathered in one fast pass.

DeepProfiler's `IlluminationStatistics` turns sums into percentiles and correction functions here
too. Only the gathering is replaced: histograms by counting, one resize of the summed image instead
of a sum of resized images (resizing is linear), sites spread over processes. The same pass measures
the quality of each raw image, so that no image is decoded a third time.
"""

import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.transform import resize

from coda.crops.image_copies import CHECKSUM, pixel_checksum
from coda.crops.quality import measure_site
from coda.crops.site_images import list_sites, plate_name, read_site, tell_lost
from coda.errors import UserError
from coda.files import replacing
from coda.gallery.input_warnings import missing_sites
from coda.gallery.tiff import BrokenImage
from coda.parallel import spread
from coda.progress import Progress

# The values of DeepProfiler's example configuration, which the paper used.
DOWN_SCALE_FACTOR = 4
MEDIAN_FILTER_SIZE = 24
GREYS = 2**16


@dataclass
class Illumination:
    """Statistics of one plate.

    Attributes
    ----------
    channels : list of str
        Names, in the order of every first axis below.
    size : tuple of int
        Height and width of the plate's images.
    functions : numpy.ndarray
        Illumination functions, float32 (C, H, W); dividing by them corrects an image.
    lower, upper, mean : numpy.ndarray
        Percentiles 0.01 and 99.99 and mean of the raw grey values, float64 (C,).
    histogram : numpy.ndarray
        Raw grey values counted, float64 (C, 65536).
    mean_image : numpy.ndarray
        Mean image at a quarter of the size, float64 (C, H / 4, W / 4).
    sites : pandas.DataFrame
        One row per site of the index: well, site, status, reason, quality measures and checksums of its images.
    """

    channels: list[str]
    size: tuple[int, int]
    functions: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    mean: np.ndarray
    histogram: np.ndarray
    mean_image: np.ndarray
    sites: pd.DataFrame

    def save(self, path: str | os.PathLike) -> None:
        """Write an ``.npz`` file, whole or not at all."""
        table = io.BytesIO()
        self.sites.to_parquet(table, index=False)
        arrays = {name: value for name, value in vars(self).items() if name != "sites"}
        with replacing(path) as temporary:
            np.savez(temporary, sites=np.frombuffer(table.getvalue(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Illumination":
        """Read the file that `save` wrote.

        Raises
        ------
        UserError
            If the file is missing or no such file.
        """
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
            arrays["sites"] = pd.read_parquet(io.BytesIO(arrays["sites"].tobytes()))
            arrays["channels"] = arrays["channels"].tolist()
            arrays["size"] = tuple(arrays["size"].tolist())
            return cls(**arrays)
        except FileNotFoundError:
            raise UserError(f"The illumination statistics {path} do not exist.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} does not hold illumination statistics ({error}); delete it and run again."
            ) from error


def estimate_illumination(
    index: pd.DataFrame,
    images: str | os.PathLike,
    manifest: pd.DataFrame,
    channels: Sequence[str],
    out: str | os.PathLike,
    processes: int = 1,
    min_sites: int = 1,
    max_lost: float = 0.1,
    crop: float | None = None,
) -> Illumination:
    """Gather the statistics of one plate and write them.

    Parameters
    ----------
    index, images, manifest
        The plate's index, folder of TIFF files and manifest of objects.
    channels
        Names of the channels to use.
    out
        The ``.npz`` file to make.
    processes
        Number of worker processes.
    min_sites
        Smallest number of usable sites.
    max_lost
        Largest share of sites that a plate may lose.
    crop
        Side of the one crop from the centre of each site, in its pixels; None where crops are others.

    Raises
    ------
    UserError
        If too many sites are lost or too few are left.
    """
    plate, channels = plate_name(index), list(channels)
    sites = list_sites(index, manifest, channels)
    usable = sites.index[sites["status"] == "ok"]
    progress = Progress(f"illumination {plate}", total=len(usable), unit="sites")
    length = int(np.clip(len(usable) / (3 * processes), 1, 48))
    parts = [usable[start : start + length] for start in range(0, len(usable), length)]

    found: dict[int, dict] = {}
    sums: dict[tuple[int, int], Sums] = {}
    for measured, part in spread(_gather, parts, (Path(images), sites, channels, crop), processes):
        found.update(measured)
        for size, more in part.items():
            sums[size] = sums[size].plus(more) if size in sums else more
        progress.update(len(measured))

    # A plate's size is that of most of its sites; the others are lost.
    size = max(sums, key=lambda size: sums[size].count, default=None)
    facts = pd.DataFrame.from_dict(found, orient="index")
    for row, fact in found.items():
        if fact["status"] == "ok" and fact["size"] != size:
            wrong, right = ("{1} x {0}".format(*pair) for pair in (fact["size"], size))
            facts.loc[row, "reason"] = f"its images are {wrong} pixels, the plate's are {right}"
            facts.loc[row, "status"] = "wrong size"
    if len(facts):
        sites.loc[facts.index, ["status", "reason"]] = facts[["status", "reason"]]
        sites = sites.join(facts.drop(columns=["status", "reason", "size"]))
    tell_lost(plate, sites, max_lost, missing_sites(index))
    if size is None or sums[size].count < min_sites:
        count = 0 if size is None else sums[size].count
        raise UserError(
            f"{plate} has {count} usable sites, fewer than crops.min_sites = {min_sites}, too few "
            "to estimate its illumination; set crops.illumination to auto or none, lower crops.min_sites, or leave the "
            "plate out (exclude_plates)."
        )
    statistics = _finish(sums[size], size, channels, processes)
    illumination = Illumination(channels, size, **statistics, sites=sites.drop(columns="files"))
    illumination.save(out)
    return illumination


def illumination_used(kind: str, min_sites: int, sites: pd.DataFrame) -> str:
    """Say what a plate's illumination is corrected by.

    A function estimated from few sites shows their cells as shading: on real fields it spread by 9 % from 20 sites,
    5 % from 54 and 3 % from 200.

    Parameters
    ----------
    kind
        The config's ``crops.illumination``; ``auto`` is DeepProfiler's function from `min_sites` usable sites on, and
        none below.
    min_sites
        The config's ``crops.min_sites``.
    sites
        `Illumination.sites` of the plate.
    """
    if kind != "auto":
        return kind
    return "deepprofiler" if (sites["status"] == "ok").sum() >= min_sites else "none"


@dataclass
class Sums:
    """Sums over the sites of one size: histograms (C, 65536) and images (C, H, W)."""

    count: int
    histogram: np.ndarray
    image: np.ndarray

    def plus(self, other: "Sums") -> "Sums":
        """Add another part of the plate."""
        self.count += other.count
        self.histogram += other.histogram
        self.image += other.image
        return self


def _gather(state: tuple, rows: Sequence[int]) -> tuple[dict[int, dict], dict[tuple, Sums]]:
    """Read some sites: their measures or the reason of their loss, and sums by image size."""
    folder, sites, channels, crop = state
    measured, sums = {}, {}
    for row in rows:
        try:
            images = read_site(folder, sites.at[row, "files"], channels)
        except BrokenImage as error:
            measured[row] = {"status": "broken", "reason": str(error), "size": None}
            continue
        counts = [np.bincount(image.ravel(), minlength=GREYS) for image in images]
        size = images[0].shape
        if size not in sums:
            empty = np.zeros((len(channels), GREYS), np.int64)
            # 32 bits hold the sum of 65,537 images, more than any plate has.
            sums[size] = Sums(0, empty, np.zeros((len(channels), *size), np.uint32))
        total = sums[size]
        total.count += 1
        for channel, (image, bins) in enumerate(zip(images, counts, strict=True)):
            total.histogram[channel] += bins
            total.image[channel] += image
        fact = {"status": "ok", "reason": None, "size": size}
        checksums = {
            f"{CHECKSUM}{name}": pixel_checksum(image)
            for name, image in zip(channels, images, strict=True)
        }
        measured[row] = fact | measure_site(images, counts, channels, crop) | checksums
    return measured, sums


def _finish(sums: Sums, size: tuple[int, int], channels: list[str], processes: int) -> dict:
    """Let DeepProfiler compute the statistics, each channel by itself: its filter is slow."""
    parts = spread(_finish_channel, range(len(channels)), (sums, size, channels), processes)
    return {name: np.stack(values) for name, values in _transpose(list(parts)).items()}


def _transpose(parts: list[dict]) -> dict[str, list]:
    return {name: [part[name] for part in parts] for name in parts[0]}


def _finish_channel(state: tuple, channel: int) -> dict:
    sums, size, channels = state
    collector = deepprofiler_statistics()(
        16, [channels[channel]], DOWN_SCALE_FACTOR, MEDIAN_FILTER_SIZE, channels[channel]
    )
    collector.count, collector.original_image_size = sums.count, (*size, 1)
    collector.hist = sums.histogram[[channel]].astype(np.float64)
    scale = (size[0] / DOWN_SCALE_FACTOR, size[1] / DOWN_SCALE_FACTOR)
    mean = sums.image[channel].astype(np.float64)
    mean = resize(mean, scale, mode="reflect", anti_aliasing=True, preserve_range=True)
    collector.mean_image = mean[:, :, np.newaxis]
    stats = collector.computeStats()
    return {
        "functions": stats["illum_correction_function"][:, :, 0].astype(np.float32),
        "lower": stats["lower_percentiles"][0],
        "upper": stats["upper_percentiles"][0],
        "mean": stats["mean_values"][0],
        "histogram": stats["histogram"][0],
        "mean_image": stats["mean_image"][:, :, 0],
    }


def deepprofiler_statistics() -> type:
    """DeepProfiler's `IlluminationStatistics`, imported without its effect on the root logger.

    The import sets the root logger to INFO and lets it print to the standard output.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    from deepprofiler.dataset.illumination_statistics import IlluminationStatistics

    root.setLevel(level)
    root.handlers[:] = handlers
    return IlluminationStatistics
