"""Crops that were cut elsewhere: a table of files and compounds becomes a plate's index, crop store and quality."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from coda.columns import SITE_KEYS
from coda.crops.compression import stretch
from coda.crops.image_copies import CHECKSUM, pixel_checksum
from coda.crops.quality import flag_sites, inspect_plate, measure_site
from coda.crops.site_images import SITE, plate_name, tell_lost
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError
from coda.files import read_table, write_table
from coda.gallery.arrays import read_npy
from coda.gallery.planes import plane_key
from coda.gallery.platemap import compounds_of, plain, read_platemap
from coda.gallery.plates import WELL_COLUMNS
from coda.gallery.site_index import (
    add_compounds,
    plate_layout,
    rows_of_plate,
    site_numbers,
    well_names,
)
from coda.gallery.tiff import MOST_PIXELS, BrokenImage, read_pages
from coda.logs import some, warn

SITE_HEADINGS = ("site", "siteid", "field", "fieldid", "fov")
FILE_HEADINGS = ("file", "filename", "path", "image", "crop")
MOST_BYTES = 8 * MOST_PIXELS + 2**16  # of an NPY
# Bits and colour type of PNGs: grey, RGB and RGBA.
PNG_KINDS = {(8, 0), (16, 0), (8, 2), (8, 6)}
# Of this many crops of a plate the range of grey values is taken.
SAMPLES = 200
# Shares of pixels that the stretch to 8 bits cuts off at both ends, in percent, as for images.
TAILS = (0.05, 99.95)


def read_rows(path: str | Path, plate: str, channels: Sequence[str]) -> pd.DataFrame:
    """Read which file or files hold each crop of a plate.

    Parameters
    ----------
    path
        CSV, TSV or Parquet file with a row a crop: ``well``, as wished ``plate`` and ``site`` (1 without one), and
        the files, relative to the table's folder: in one column ``file`` for all channels, or in one a channel,
        called as it. What else it says of wells is read by `coda.gallery.platemap.read_platemap`.
    plate
        The plate whose rows are wanted.
    channels
        Names of the channels.

    Returns
    -------
    pandas.DataFrame
        One row a crop, by well and site: Metadata_Well, Metadata_Site and ``files``, a tuple of one path for all
        channels, or of one a channel.

    Raises
    ------
    UserError
        If a column is missing, a file is missing or is that of two crops.
    """
    table = read_table(path).astype("str")
    headings = {plain(heading): heading for heading in reversed(list(table))}
    if "plate" in headings:
        rows = table.rename(columns={headings["plate"]: "Metadata_Plate"})
        table = rows_of_plate(rows, plate, str(path))
    if table.empty:
        raise UserError(f"The table of crops {path} has no crop of the plate {plate}.")
    own = [headings.get(channel.lower()) for channel in channels]
    whole = [headings[name] for name in FILE_HEADINGS if name in headings][:1]
    if "well" not in headings or not (whole or all(own)):
        raise UserError(
            f"The table of crops {path} needs a column well and a column file, or one a channel "
            f"({', '.join(channels)}); it has {', '.join(table)}."
        )
    columns = own if all(own) else whole
    site = next((headings[name] for name in SITE_HEADINGS if name in headings), None)
    if table[columns].isna().any(axis=None):
        row = int(np.flatnonzero(table[columns].isna().any(axis=1))[0])
        raise UserError(f"Row {row + 1} of the table of crops {path} names no file.")
    paths = table[columns].map(lambda name: os.path.normpath(Path(path).parent / name))
    named = pd.Series(paths.to_numpy().ravel())
    if named.duplicated().any():
        raise UserError(
            f"The table of crops {path} names {named[named.duplicated()].iloc[0]} twice; a file is one crop."
        )
    if absent := [name for name in named if not os.path.isfile(name)]:
        raise UserError(
            f"{len(absent)} of {len(named)} files of the table of crops {path} do not exist, such as {absent[0]}; they "
            "are named relative to the table."
        )
    rows = pd.DataFrame(
        {
            "Metadata_Well": well_names(table[headings["well"]], str(path)),
            "Metadata_Site": site_numbers(table[site], str(path)) if site else 1,
            "files": list(paths.itertuples(index=False, name=None)),
        }
    )
    return rows.sort_values(SITE, kind="stable").reset_index(drop=True)


def index_crops(
    path: str | Path,
    platemap: str | Path | None,
    source: str,
    batch: str,
    plate: str,
    channels: Sequence[str],
) -> pd.DataFrame:
    """Index the sites of a plate of crops; no crop is read.

    Parameters
    ----------
    path
        The table of crops, see `read_rows`.
    platemap
        File with the compounds of wells, where the table itself does not have them.
    source, batch, plate
        Which plate.
    channels
        Names of the channels.

    Returns
    -------
    pandas.DataFrame
        As of `coda.gallery.site_index.index_plate`; the keys are the files of each site's first crop.
    """
    rows = read_rows(path, plate, channels).drop_duplicates(SITE)
    wells = read_platemap(platemap or path, plate)
    sites = rows[SITE].reset_index(drop=True)
    sites.insert(0, "Metadata_Source", source)
    sites.insert(1, "Metadata_Batch", batch)
    sites.insert(2, "Metadata_Plate", plate)
    files = rows["files"].to_list()
    for number, channel in enumerate(channels):
        keys = [each[min(number, len(each) - 1)] for each in files]
        sites[f"Key_{channel}"] = [
            key if number == 0 or len(each) > 1 else plane_key(key, str(number + 1))
            for key, each in zip(keys, files, strict=True)
        ]
    own = wells.assign(Metadata_Source=source, Metadata_Plate=plate)[WELL_COLUMNS]
    layout = plate_layout(own, compounds_of(wells), source, plate)
    return add_compounds(sites, layout, f"{source} {plate}")


def read_array(path: str | Path) -> np.ndarray:
    """Read the pixels of a PNG, TIFF or NPY file.

    Raises
    ------
    BrokenImage
        If it is none, or damaged.
    """
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".npy":
            if os.path.getsize(path) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
            return read_npy(Path(path).read_bytes())
        if suffix in (".tif", ".tiff"):
            return read_pages(path)
        if suffix == ".png":
            return read_png(path)
    except Exception as error:  # decoders raise errors of many unrelated types
        raise BrokenImage(f"{path} cannot be read: {error}") from error
    raise BrokenImage(f"{path} is no PNG, TIFF or NPY file")


def read_png(path: str | Path) -> np.ndarray:
    """Read the pixels of a PNG that holds them as they are: not as places in a palette, nor cut to 8 bits.

    Raises
    ------
    ValueError
        If it is another, or claims too much. What Pillow raises if it is damaged.
    """
    with open(path, "rb") as file, Image.open(file, formats=["PNG"]) as image:
        file.seek(24)  # within the first chunk, which Pillow has read
        kind = tuple(file.read(2))
        if kind not in PNG_KINDS:
            raise ValueError(
                f"it is a PNG of {kind[0]} bits and colour type {kind[1]}; save grey values of 8 or 16 bits, or RGB or "
                "RGBA of 8"
            )
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it claims {image.width} x {image.height} pixels")
        return np.asarray(image)


def read_crop(files: Sequence[str], channels: int) -> np.ndarray:
    """Read a crop, channels first (C, H, W).

    Raises
    ------
    BrokenImage
        If its channels are not as many, differ in size or type, or cannot be told from its sides.
    """
    arrays = [read_array(file) for file in files]
    if len(arrays) > 1:
        if any(array.ndim != 2 for array in arrays) or len({array.shape for array in arrays}) > 1:
            raise BrokenImage(
                f"{files[0]} and the files beside it are not one plane each, of one size"
            )
        crop = np.stack(arrays)
    else:
        (crop,) = arrays
        if crop.ndim == 2:
            crop = crop[None]
        first, last = crop.shape[0] == channels, crop.shape[-1] == channels
        if crop.ndim != 3 or first == last:
            raise BrokenImage(
                f"{files[0]} has the shape {crop.shape}, in which {channels} channels are not the first or last axis"
            )
        crop = crop if first else np.moveaxis(crop, -1, 0)
    if crop.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise BrokenImage(f"{files[0]} is {crop.dtype}; crops are of 8 or 16 bits, or floats")
    with np.errstate(over="ignore"):  # what is stretched is float32
        finite = np.isfinite(crop.astype(np.float32, copy=False)).all()
    if not finite:
        raise BrokenImage(f"{files[0]} holds values that are not finite")
    return crop


def import_crops(
    rows: pd.DataFrame,
    index: pd.DataFrame,
    channels: Sequence[str],
    settings: dict,
    um_per_pixel: float | None,
    max_lost: float,
    out: str | os.PathLike,
    quality: str | os.PathLike,
    manifest: str | os.PathLike,
) -> None:
    """Write the crop store, the quality table and the manifest of a plate of crops.

    8-bit crops stay as they are. Others are stretched to 8 bits, each channel between the percentiles `TAILS` of
    the plate. Crops larger than ``size`` lose their margins. A site is lost where a crop of it cannot be used.

    Parameters
    ----------
    rows
        As from `read_rows`.
    index
        As from `index_crops`.
    channels
        Names of the channels.
    settings
        ``kind``, ``size`` and ``flags`` of the config's section ``crops``; crops of cells are not flagged for having
        few cells.
    um_per_pixel
        Pixel size of the crops.
    max_lost
        Share of the sites, 0 to 1, that may be lost.
    out, quality, manifest
        The files to make.

    Raises
    ------
    UserError
        If crops are smaller than ``size``, or too many sites are lost.
    """
    name, size = plate_name(index), settings["size"]
    limits = settings["flags"] | ({"cells": None} if settings["kind"] == "cells" else {})
    ranges = grey_ranges(rows, len(channels), name)
    sites = index[SITE].assign(status="ok", reason=None)
    sites["reason"] = sites["reason"].astype(object)
    measures, faults = {}, {}
    groups = {site: list(group["files"]) for site, group in rows.groupby(SITE, sort=False)}
    for site, files in groups.items():
        try:
            crops = [fitted(read_crop(each, len(channels)), size, name, ranges) for each in files]
        except BrokenImage as error:
            faults[site] = str(error)
            continue
        found = [measured(crop, channels) for crop in crops]
        checksums = {
            f"{CHECKSUM}{channel}": " ".join(pixel_checksum(crop[number]) for crop in crops)
            for number, channel in enumerate(channels)
        }
        measures[site] = pd.DataFrame(found).mean().to_dict() | checksums
    keys = list(sites[SITE].itertuples(index=False, name=None))
    lost = [key in faults for key in keys]
    sites.loc[lost, "status"] = "broken"
    sites.loc[lost, "reason"] = [faults[key] for key in keys if key in faults]
    tell_lost(name, sites, max_lost)
    sites = sites.join(pd.DataFrame([measures.get(key, {}) for key in keys], index=sites.index))
    flags = flag_sites(sites[sites["status"] == "ok"], channels, limits)
    stored = sites.join(flags).filter(like="Quality_")
    description = {
        "kind": settings["kind"],
        "size": size,
        "illumination": "none",
        "um_per_pixel": um_per_pixel,
        "rescaled": False,
    }
    metadata = index[[column for column in index if column.startswith("Metadata_")]]
    with CropWriter(out, channels, size, size, description) as writer:
        for row, key in enumerate(keys):
            if key in faults:
                continue
            crops = [
                fitted(read_crop(each, len(channels)), size, name, ranges) for each in groups[key]
            ]
            # Where they lay in their field is not known.
            unknown = np.full(len(crops), np.nan)
            written = metadata.iloc[row].to_dict() | stored.iloc[row].to_dict()
            writer.write(
                written | {"Crop_Y": unknown, "Crop_X": unknown},
                np.ascontiguousarray(np.stack(crops)),
            )
    inspect_plate(index, sites, CropStore([out]).table, channels, limits, quality)
    write_table(pd.DataFrame(manifest_rows(index, groups, channels, faults)), manifest)


def grey_ranges(rows: pd.DataFrame, channels: int, name: str) -> list[tuple[float, float]] | None:
    """Give the range of grey values of each channel; None where crops are of 8 bits already."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, SAMPLES).astype(int))
    pixels: list[list[np.ndarray]] = [[] for _ in range(channels)]
    kinds = set()
    for files in rows["files"].iloc[chosen]:
        try:
            crop = read_crop(files, channels)
        except BrokenImage:
            continue  # told where all crops are read
        kinds.add(crop.dtype.name)
        for found, plane in zip(pixels, crop, strict=True):
            found.append(plane.ravel()[::7])
    if len(kinds) > 1:
        raise UserError(
            f"The crops of {name} are of several types ({some(kinds)}); save all as one."
        )
    if not kinds or kinds == {"uint8"}:
        return None
    ranges = [tuple(np.percentile(np.concatenate(found), TAILS)) for found in pixels]
    told = ", ".join(f"{low:g} to {high:g}" for low, high in ranges)
    warn(f"{name}: crops are {some(kinds)} and stretched to 8 bits, by channel from {told}")
    return ranges


def fitted(
    crop: np.ndarray, size: int, name: str, ranges: list[tuple[float, float]] | None
) -> np.ndarray:
    """Bring a crop to 8 bits and to its size, by its centre."""
    height, width = crop.shape[1:]
    if min(height, width) < size:
        raise UserError(
            f"The crops of {name} are {width} x {height} pixels, smaller than crops.size = {size}; lower crops.size."
        )
    top, left = (height - size) // 2, (width - size) // 2
    cut = crop[:, top : top + size, left : left + size]
    if (cut.dtype == np.uint8) != (ranges is None):
        raise BrokenImage(f"it is {cut.dtype}, unlike others of its plate")
    if ranges is None:
        return cut
    return np.stack(
        [stretch(plane.astype(np.float32), *each) for plane, each in zip(cut, ranges, strict=True)]
    )


def measured(crop: np.ndarray, channels: Sequence[str]) -> dict[str, float]:
    """Measure a crop as `coda.crops.quality` measures images."""
    planes = [plane.astype(np.uint16) for plane in crop]
    return measure_site(planes, [np.bincount(plane.ravel()) for plane in planes], channels)


def manifest_rows(
    index: pd.DataFrame,
    groups: dict[tuple, list[tuple[str, ...]]],
    channels: Sequence[str],
    faults: dict[tuple, str],
) -> Iterator[dict]:
    """Name the files that were read, one row each."""
    for row in index[SITE_KEYS].to_dict("records"):
        key = tuple(row[column] for column in SITE)
        for files in groups[key]:
            for number, file in enumerate(files):
                yield row | {
                    "channel": channels[number] if len(files) > 1 else "all",
                    "key": file,
                    "file": os.path.basename(file),
                    "bytes": os.path.getsize(file),
                    "status": "broken" if key in faults else "ok",
                    "reason": faults.get(key),
                }
