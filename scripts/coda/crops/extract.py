"""Cut the crops of a plate: read, correct, stretch to 8 bits, cut and store, in one pass."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from coda.crops.compression import compress
from coda.crops.illumination import Illumination, illumination_used
from coda.crops.locations import cell_corners, centre_corner, grid_corners, segment_nuclei
from coda.crops.quality import flag_sites
from coda.crops.site_images import NO_CROP, list_sites, plate_name, read_site, tell_lost
from coda.crops.store import CropWriter
from coda.errors import UserError
from coda.gallery.illumination_files import read_functions
from coda.gallery.input_warnings import missing_sites
from coda.gallery.tiff import BrokenImage
from coda.logs import tell
from coda.parallel import spread
from coda.progress import Progress


@dataclass
class Cutting:
    """What the workers need to cut any site of a plate."""

    folder: Path
    sites: pd.DataFrame
    channels: list[str]
    size: tuple[int, int]
    functions: Sequence[np.ndarray | None]
    highest: np.ndarray
    kind: str
    crop: int
    factor: float
    um_per_pixel: float | None
    nuclei: Mapping[tuple[str, int], np.ndarray] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width after resizing, truncated as DeepProfiler does."""
        return int(self.factor * self.size[0]), int(self.factor * self.size[1])


def extract_crops(
    index: pd.DataFrame,
    images: str | os.PathLike,
    manifest: pd.DataFrame,
    illumination: str | os.PathLike,
    out: str | os.PathLike,
    settings: dict,
    um_per_pixel: float | None,
    processes: int = 1,
    max_lost: float = 0.1,
    channels: Sequence[str] | None = None,
    nuclei: pd.DataFrame | None = None,
    functions: Sequence[str | os.PathLike] = (),
) -> pd.DataFrame:
    """Cut the crops of one plate into a store file.

    Parameters
    ----------
    index, images, manifest
        The plate's index, folder of TIFF files and manifest of objects.
    illumination
        The file of `coda.crops.illumination.estimate_illumination`.
    out
        The store file to make.
    settings
        The config's ``crops`` section: ``kind`` (centre, grid or cells), ``size`` in pixels,
        ``illumination`` (auto, deepprofiler, gallery or none), ``min_sites`` for auto, ``um_per_pixel``
        (a common pixel size, None for none), ``flags`` (limits of `coda.crops.quality.flag_sites`).
    um_per_pixel
        Pixel size of the raw images, None where unknown.
    processes
        Number of worker processes.
    max_lost
        Largest share of sites that a plate may lose.
    channels
        Channels to cut; all of the illumination file by default.
    nuclei
        For ``kind: cells``, the table of `coda.gallery.nuclei_tables.download_nuclei`; where it is None or has no
        rows, the DNA channel is segmented.
    functions
        For ``illumination: gallery``, files of `coda.gallery.illumination_files.download_illumination`,
        one per channel.

    Returns
    -------
    pandas.DataFrame
        One row per site of the index: well, site, ``status``, ``reason``, ``crops``.

    Raises
    ------
    UserError
        If sites are smaller than the crop, too many are lost, or settings contradict the input.
    """
    plate = plate_name(index)
    stats = Illumination.load(illumination)
    channels = list(channels or stats.channels)
    absent = [name for name in channels if name not in stats.channels]
    if absent:
        raise UserError(
            f"{illumination} lacks the channel(s) {', '.join(absent)}; delete it and run again."
        )
    order = [stats.channels.index(name) for name in channels]
    sites = list_sites(index, manifest, channels)
    # What the first pass found unusable is not tried again.
    seen = stats.sites.set_index(["Metadata_Well", "Metadata_Site"])
    cutting = Cutting(
        Path(images),
        sites,
        channels,
        stats.size,
        _functions(
            illumination_used(settings["illumination"], settings["min_sites"], stats.sites),
            stats,
            order,
            functions,
        ),
        stats.upper[order],
        settings["kind"],
        settings["size"],
        _factor(settings, um_per_pixel, plate),
        um_per_pixel,
        _by_site(nuclei, plate),
    )
    _check(cutting, plate)
    quality = seen.join(flag_sites(seen[seen["status"] == "ok"], channels, settings["flags"]))
    keys = list(zip(sites["Metadata_Well"], sites["Metadata_Site"], strict=True))
    measures = quality.filter(like="Quality_").reindex(keys).to_dict("records")
    sites[["status", "reason"]] = seen[["status", "reason"]].reindex(keys).to_numpy()
    usable = sites.index[sites["status"] == "ok"]

    metadata = index[[name for name in index if name.startswith("Metadata_")]].to_dict("records")
    description = {
        "kind": cutting.kind,
        "size": cutting.crop,
        "illumination": settings["illumination"],
        "um_per_pixel": settings["um_per_pixel"] or um_per_pixel,
        "rescaled": settings["um_per_pixel"] is not None,
    }
    if cutting.kind == "cells":
        description["nuclei"] = "segmented" if cutting.nuclei is None else "gallery"
    progress = Progress(f"crops {plate}", total=len(usable), unit="sites")
    counts = pd.Series(0, index=sites.index)
    results = spread(_cut_site, usable, cutting, processes)
    with CropWriter(out, channels, cutting.crop, cutting.crop, description) as writer:
        for row, (pixels, centres, fault) in zip(usable, results, strict=True):
            counts[row] = len(pixels)
            if fault is None:
                places = {"Crop_Y": centres[:, 0], "Crop_X": centres[:, 1]}
                writer.write({**metadata[row], **measures[row], **places}, pixels)
            else:
                sites.loc[row, ["status", "reason"]] = fault
            progress.update(crops=int(counts.sum()))
        tell_lost(plate, sites, max_lost, missing_sites(index))
    return sites.drop(columns="files").assign(crops=counts)


def _cut_site(cutting: Cutting, row: int) -> tuple[np.ndarray, np.ndarray, tuple[str, str] | None]:
    """Crops (n, C, size, size), their centres in raw pixels (n, 2), or status and reason of none."""
    size, factor = cutting.crop, cutting.factor
    none = np.empty((0, len(cutting.channels), size, size), np.uint8), np.empty((0, 2))
    try:
        images = read_site(cutting.folder, cutting.sites.at[row, "files"], cutting.channels)
        if images[0].shape != cutting.size:
            raise BrokenImage(f"its images are {images[0].shape}, the plate's are {cutting.size}")
    except BrokenImage as error:
        return *none, ("broken", str(error))
    if cutting.kind == "centre":
        corners = centre_corner(cutting.shape, size)
    elif cutting.kind == "grid":
        corners = grid_corners(cutting.shape, size)
    else:
        if cutting.nuclei is None:
            image = images[cutting.channels.index("DNA")]
            nuclei = segment_nuclei(image, cutting.um_per_pixel)
        else:
            site = cutting.sites.loc[row, ["Metadata_Well", "Metadata_Site"]]
            nuclei = cutting.nuclei.get(tuple(site), np.empty((0, 2)))
        corners, kept = cell_corners(nuclei, factor, cutting.shape, size)
        if not corners:
            return *none, (NO_CROP, f"none of its {len(nuclei)} nuclei lies inside by half a crop")
    stretched = [
        compress(image, function, highest, cutting.shape, corners, size)
        for image, function, highest in zip(images, cutting.functions, cutting.highest, strict=True)
    ]
    centres = (np.array(corners) + size / 2) / factor - 0.5
    if cutting.kind == "cells":
        centres = nuclei[kept]
    return np.stack(stretched, axis=1), centres, None


def _functions(
    kind: str, stats: Illumination, order: list[int], paths: Sequence[str | os.PathLike]
) -> list[np.ndarray | None]:
    """Illumination functions (H, W), one per channel, from where the settings say."""
    if kind == "none":
        return [None] * len(order)
    if kind == "deepprofiler":
        return [stats.functions[channel] for channel in order]
    if len(paths) != len(order):
        raise UserError(
            f"crops.illumination is gallery, but {len(paths)} illumination functions are given for "
            f"{len(order)} channels."
        )
    return read_functions(paths, stats.size)


def _factor(settings: dict, um_per_pixel: float | None, plate: str) -> float:
    if settings["um_per_pixel"] is None:
        return 1.0
    if um_per_pixel is None:
        raise UserError(
            f"The pixel size of {plate} is unknown, so it cannot be rescaled to "
            "crops.um_per_pixel; state it in the config or set crops.um_per_pixel to null."
        )
    return um_per_pixel / settings["um_per_pixel"]


def _by_site(nuclei: pd.DataFrame | None, plate: str) -> dict[tuple[str, int], np.ndarray] | None:
    """Centres (n, 2) of the nuclei of each site; None to segment them."""
    if nuclei is None:
        return None
    if nuclei.empty:
        tell(f"{plate}: the gallery has no nuclei; those in its DNA images are segmented")
        return None
    groups = nuclei.groupby(["Metadata_Well", "Metadata_Site"], sort=False)
    return {(well, int(site)): group[["Y", "X"]].to_numpy() for (well, site), group in groups}


def _check(cutting: Cutting, plate: str) -> None:
    if min(cutting.shape) < cutting.crop:
        height, width = cutting.shape
        raise UserError(
            f"The sites of {plate} are {width} x {height} pixels, smaller than crops.size = "
            f"{cutting.crop}; lower crops.size."
        )
    if cutting.kind == "cells" and cutting.nuclei is None and "DNA" not in cutting.channels:
        raise UserError(
            f"crops.kind is cells and the gallery's nuclei of {plate} are not there: add DNA to "
            "channels, in which they are segmented, or leave the plate out (exclude_plates)."
        )
