"""JUMP's load_data tables: which images make up a site, in any of the gallery's styles."""

import os
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import pandas as pd

from coda.errors import UserError
from coda.files import parse_table
from coda.gallery.base import FetchError, Gallery

# The first that exists and has rows is read; corrections by JUMP are made in the plain tables.
NAMES = (
    "load_data.csv",
    "load_data.csv.gz",
    "load_data_with_illum.parquet",
    "load_data_with_illum.csv",
    "load_data_with_illum.csv.gz",
)
PUBLIC_ROOT = "s3://cellpainting-gallery/cpg0016-jump"
MOUNT = "/home/ubuntu/bucket"  # where the machines that made the older tables saw the bucket


PLACE = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]


def find_load_data(gallery: Gallery, source: str, batch: str, plate: str) -> list[str]:
    """Give the keys of a plate's load_data, the one to read first."""
    folder = f"{source}/workspace/load_data_csv/{batch}/{plate}/"
    there = {entry.key for entry in gallery.entries(folder)}
    return [folder + name for name in NAMES if folder + name in there]


def read_load_data(gallery: Gallery, key: str, source: str, channels: list[str]) -> pd.DataFrame:
    """Read the sites of a load_data table and the keys of their images.

    Channels are found by name: column ``URL_Orig<channel>``, or ``PathName_Orig<channel>`` and
    ``FileName_Orig<channel>``. Channel numbers differ between sources and are not used.

    Parameters
    ----------
    gallery
        Where the table lies.
    key
        The table, Parquet or CSV by its suffix, perhaps gzipped.
    source
        Whose images they are; images outside its folder are refused.
    channels
        Names of the channels wanted.

    Returns
    -------
    pandas.DataFrame
        As text: Metadata_Plate if the table has it, Metadata_Well, Metadata_Site, what other columns
        ``Metadata_*`` differ between rows, and a column ``Key_<channel>`` a channel with keys relative to
        the gallery's root, missing where the table has none. Row i of the table has index i.

    Raises
    ------
    UserError
        If the table cannot be read, lacks a column, names a file outside the source's folder or a plane
        within files.
    """
    try:
        listed = gallery.listed([key]) or {}
        table = parse_table(gallery.read(key, listed.get(key)), key)
    except (OSError, ValueError, EOFError, zlib.error, FetchError) as error:
        raise UserError(
            f"{key} cannot be read: {error}; correct it or leave its plate out (exclude_plates)."
        ) from error
    missing = [column for column in PLACE[1:] if column not in table]
    if missing:
        raise UserError(
            f"{key} lacks the column(s) {', '.join(missing)}; "
            "correct it or leave its plate out (exclude_plates)."
        )
    refuse_planes(table, channels, key)
    others = [
        column
        for column in table
        if column.startswith("Metadata_")
        and column not in PLACE
        and table[column].nunique(dropna=False) > 1
    ]
    place = [column for column in PLACE if column in table]
    rows = table[[*place, *others]].astype("str")
    for channel in channels:
        rows[f"Key_{channel}"] = relative_keys(
            image_paths(table, channel, key), gallery.root, source, rows, key
        )
    return rows


def refuse_planes(table: pd.DataFrame, channels: list[str], key: str) -> None:
    """Refuse a table by which an image is not the first plane of its file, as in stacks of all channels."""
    for channel in channels:
        for column in (f"Frame_Orig{channel}", f"Series_Orig{channel}"):
            if column in table:
                planes = table[column].dropna().astype("str")
                further = planes[~planes.str.fullmatch(r"0+(\.0+)?")]
                if len(further):
                    raise UserError(
                        f"{key} takes {channel} from plane {further.iloc[0]} of its files ({column}), but files of "
                        "several planes are not read; save a TIFF a site and channel, or leave the plate out "
                        "(exclude_plates)."
                    )


def image_paths(table: pd.DataFrame, channel: str, key: str) -> pd.Series:
    """Give the location of each site's image of a channel, as the table writes it."""
    if f"URL_Orig{channel}" in table:
        return table[f"URL_Orig{channel}"]
    folder, name = f"PathName_Orig{channel}", f"FileName_Orig{channel}"
    if folder not in table or name not in table:
        known = sorted({column.partition("_Orig")[2] for column in table if "_Orig" in column})
        raise UserError(
            f"{key} lacks URL_Orig{channel} (or {folder} and {name}), a channel of the config; "
            f"its channels are {', '.join(known) or 'none'}."
        )
    return table[folder].str.rstrip("/") + "/" + table[name]


def relative_keys(
    paths: pd.Series, root: str, source: str, rows: pd.DataFrame, table: str
) -> pd.Series:
    """Turn locations into keys relative to the gallery's root.

    A table may name the public bucket, the place where its makers had mounted it, or the root of
    the gallery in use; in all cases the image is then read below that root and nowhere else.

    Raises
    ------
    UserError
        If a location lies elsewhere, outside the source's folder, or has a part like ``..``.
    """
    keys = paths.copy()
    for prefix in known_prefixes(root):
        keys = keys.where(~paths.str.startswith(prefix, na=False), paths.str.slice(len(prefix)))
    if "://" not in root:
        # Text even where all are missing.
        keys = keys.map(lambda key: below_root(key, root), "ignore").astype("str")
    unsafe = keys.str.contains(r"(?:^|/)\.{0,2}(?:/|$)|\\|[\x00-\x1f\x7f]", na=False)
    refused = keys.notna() & (unsafe | ~keys.str.startswith(f"{source}/images/", na=False))
    if refused.any():
        row = refused.idxmax()
        raise UserError(
            f"{table}, row {row + 1} (well {rows.Metadata_Well[row]}, "
            f"site {rows.Metadata_Site[row]}): {paths[row]!r} is refused, because it is no image "
            f"of {source} within {root}; correct the table or leave its plate out (exclude_plates)."
        )
    return keys


def below_root(path: str, root: str) -> str:
    """Give an absolute path that reaches the folder `root` by another way, through links, relative to it."""
    if not path.startswith("/"):
        return path
    folder, name = os.path.split(path)
    below = _folder_below_root(folder, os.path.expanduser(root))
    return path if below is None else below + name


@cache
def _folder_below_root(folder: str, root: str) -> str | None:
    above, name = os.path.split(folder)
    with suppress(OSError):
        if os.path.samefile(folder, root):
            return ""
    below = None if above == folder else _folder_below_root(above, root)
    return None if below is None else f"{below}{name}/"


def known_prefixes(root: str) -> list[str]:
    """List the prefixes that locations in the gallery at `root` can have, with a closing slash."""
    own = root if "://" in root else str(Path(root).expanduser().resolve())
    mounts = [
        MOUNT + "/" + place.removeprefix("s3://").partition("/")[2]
        for place in (own, PUBLIC_ROOT)
        if place.startswith("s3://")
    ]
    return [place.rstrip("/") + "/" for place in (root, own, PUBLIC_ROOT, *mounts)]
