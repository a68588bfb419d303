"""The gallery's own nuclei: centres that CellProfiler found, in one to thousands of tables per plate."""

import os
import re
import shutil
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from coda.columns import SITE_KEYS
from coda.errors import UserError
from coda.files import write_table
from coda.gallery.base import Entry, FetchError, Gallery, fetching
from coda.gallery.download import refuse_links
from coda.gallery.site_index import site_numbers, well_names
from coda.logs import some, tell
from coda.progress import Progress

SITE = SITE_KEYS[2:]  # within a plate
NUCLEI = [*SITE, "Y", "X"]
LOCATION = {"Location_Center_X": "X", "Location_Center_Y": "Y"}


@dataclass(frozen=True)
class Group:
    """One folder of the analysis: its name, and the tables of it that are read.

    The table of images is read only where the site is not in the folder's name.
    """

    name: str
    nuclei: Entry
    images: Entry | None


def download_nuclei(
    gallery: Gallery,
    index: pd.DataFrame,
    out: str | os.PathLike,
    workers: int = 32,
    max_lost: float = 0.1,
) -> pd.DataFrame:
    """Fetch the centres of a plate's nuclei; the table is empty if the gallery has none.

    They lie in ``<source>/workspace/analysis/<batch>/<plate>/analysis/<group>/Nuclei.csv``, where a
    group is a site, a well or the whole plate. Such tables have gigabytes and three columns of
    interest, so each is removed as soon as it is read. A group that does not arrive or cannot be
    read is named, and its sites have no nuclei, up to `max_lost` of the plate's sites.

    Parameters
    ----------
    gallery
        Where they lie.
    index
        The plate's index; nuclei of other sites are ignored.
    out
        The Parquet file to make.
    workers
        Groups fetched at once.
    max_lost
        Share of the sites, 0 to 1, that may be lost with groups that fail.

    Returns
    -------
    pandas.DataFrame
        ``Metadata_Well``, ``Metadata_Site``, ``Y`` and ``X`` (pixels of the raw image), one row a
        nucleus.

    Raises
    ------
    UserError
        If the gallery is down, has nuclei of which none can be used, or too many sites are lost.
    """
    source, plate = (index[f"Metadata_{name}"].iloc[0] for name in ("Source", "Plate"))
    name, out, folder = f"{source} {plate}", Path(out), nuclei_folder(index)
    groups = list_groups(gallery, index)
    partial = out.with_name(f"{out.stem}.partial")
    refuse_links(partial)
    shutil.rmtree(partial, ignore_errors=True)  # of a killed job
    partial.mkdir(parents=True)
    progress = Progress(f"nuclei {name}", len(groups), "tables")
    kinds = {"Metadata_Well": str, "Metadata_Site": "int64", "Y": float, "X": float}
    tables, faults = [pd.DataFrame({column: [] for column in NUCLEI}).astype(kinds)], {}
    try:
        with fetching(workers, gallery) as pool:
            fetched = pool.map(lambda group: _fetch_group(gallery, group, partial, plate), groups)
            for group, table in zip(groups, fetched, strict=True):
                if isinstance(table, str):
                    faults[group.name] = table
                    tell(f"{name}: {table}")
                else:
                    tables.append(table.astype(kinds))
                progress.update()
    finally:
        shutil.rmtree(partial)
    nuclei = index[SITE].merge(pd.concat(tables).drop_duplicates(), on=SITE)
    if groups and nuclei.empty:
        first = (
            next(iter(faults.values()))
            if faults
            else "They are of other sites than the index names."
        )
        raise UserError(
            f"The nuclei of {name} in {folder} cannot be used ({first}); try again, or set "
            "crops.nuclei to segmented."
        )
    _judge_faults(name, plate, index, nuclei, faults, max_lost)
    _tell_missing(name, folder, index, nuclei)
    write_table(nuclei, out)
    return nuclei


def nuclei_folder(index: pd.DataFrame) -> str:
    """Name the folder of a plate's analysis."""
    source, batch, plate = (
        index[f"Metadata_{name}"].iloc[0] for name in ("Source", "Batch", "Plate")
    )
    return f"{source}/workspace/analysis/{batch}/{plate}/analysis"


def list_groups(gallery: Gallery, index: pd.DataFrame) -> list[Group]:
    """List the groups of a plate's analysis that may hold nuclei of the wells in its `index`.

    Raises
    ------
    UserError
        If the gallery does not list the folder.
    """
    folder, plate = nuclei_folder(index), index["Metadata_Plate"].iloc[0]
    wells, found = set(index["Metadata_Well"]), defaultdict(dict)
    try:
        for entry in gallery.entries(folder):
            group, _, file = entry.key.removeprefix(f"{folder}/").partition("/")
            found[group].setdefault(file.removesuffix(".gz"), entry)
    except FetchError as error:
        raise UserError(f"The gallery did not list {folder}: {error}; try again.") from error
    groups = []
    for name, files in found.items():
        if "Nuclei.csv" in files:
            try:
                well, site = parse_group(name, plate)
            except UserError as error:
                tell(f"{error} It is skipped.")
                continue
            if well is None or well in wells:
                images = files.get("Image.csv") if site is None else None
                groups.append(Group(name, files["Nuclei.csv"], images))
    return groups


def _fetch_group(gallery: Gallery, group: Group, folder: Path, plate: str) -> pd.DataFrame | str:
    """Give the nuclei of a group, or why there are none."""
    entries = [entry for entry in (group.nuclei, group.images) if entry]
    paths = [folder / f"{group.name}_{entry.key.rpartition('/')[2]}" for entry in entries]
    try:
        for entry, path in zip(entries, paths, strict=True):
            gallery.fetch(entry.key, path, entry)
        try:
            return read_nuclei(paths[0], group.name, plate, *paths[1:])
        except UserError as error:
            return str(error)
    except FetchError as error:
        return f"The nuclei of {group.name} did not arrive: {error}."
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _judge_faults(
    name: str,
    plate: str,
    index: pd.DataFrame,
    nuclei: pd.DataFrame,
    faults: dict[str, str],
    max_lost: float,
) -> None:
    """Refuse a plate that loses too many sites with the groups that failed (name to reason)."""
    held = {parse_group(group, plate) for group in faults}
    known = set(nuclei[SITE].itertuples(index=False, name=None))
    sites = set(index[SITE].itertuples(index=False, name=None))
    lost = [
        (well, site)
        for well, site in sites - known
        if held & {(well, site), (well, None), (None, None)}
    ]
    if len(lost) > max_lost * len(sites):
        raise UserError(
            f"{name} loses the nuclei of {len(lost)} of {len(sites)} sites ({next(iter(faults.values()))} ...), more "
            f"than gallery.max_lost = {max_lost:g} allows; try again, or set crops.nuclei to segmented."
        )


def _tell_missing(name: str, folder: str, index: pd.DataFrame, nuclei: pd.DataFrame) -> None:
    """Say which sites the gallery has no nuclei of."""
    if nuclei.empty:
        tell(f"{name}: the gallery has no nuclei in {folder}; they are segmented instead")
        return
    known = set(nuclei[SITE].itertuples(index=False, name=None))
    sites = [
        f"{well} site {site}"
        for well, site in index[SITE].itertuples(index=False, name=None)
        if (well, site) not in known
    ]
    if sites:
        tell(f"{name}: the gallery has no nuclei of {len(sites)} site(s): {some(sites)}")


def parse_group(folder: str, plate: str) -> tuple[str | None, int | None]:
    """Well and site of an analysis folder's name; None where the folder holds all of them.

    Sources name these folders ``<plate>-<well>-<site>``, ``<plate>-<well>``, ``<well>`` or
    ``<plate>``.

    Examples
    --------
    >>> parse_group("BR00121431-A02-1", "BR00121431")
    ('A02', 1)
    >>> parse_group("B07", "Dest210531-152149")
    ('B07', None)
    """
    rest = folder.removeprefix(plate).strip("-_")
    match = re.fullmatch(r"(?:([A-Za-z]{1,2})(\d{1,2})(?:-(\d+))?)?", rest)
    if match is None:
        raise UserError(
            f"The analysis folder {folder} of plate {plate} names neither well nor site."
        )
    row, column, site = match.groups()
    well = f"{row.upper()}{int(column):02d}" if row else None
    return well, int(site) if site else None


def read_nuclei(
    nuclei: str | os.PathLike,
    folder: str,
    plate: str,
    image: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Read the gallery's nuclei of one analysis folder.

    ``Nuclei.csv`` has no ``Metadata_`` columns, and its ``ImageNumber`` counts through the plate,
    so wells and sites come from the folder's name or from the ``Image.csv`` beside it.

    Parameters
    ----------
    nuclei
        Path of ``Nuclei.csv``, perhaps gzipped.
    folder
        Name of the folder it lies in.
    plate
        The plate.
    image
        Path of ``Image.csv``; needed where the folder holds several sites.

    Returns
    -------
    pandas.DataFrame
        ``Metadata_Well``, ``Metadata_Site``, ``Y`` and ``X`` (pixels), one row per nucleus.

    Raises
    ------
    UserError
        If a column is missing or `image` is needed and absent.
    """
    well, site = parse_group(folder, plate)
    table = _read(nuclei, ["ImageNumber", *LOCATION], f"Nuclei.csv of {folder}")
    table = table.rename(columns=LOCATION).dropna(subset=["Y", "X"])
    if site is not None:
        table["Metadata_Well"], table["Metadata_Site"] = well, site
        return table[NUCLEI]
    if image is None:
        raise UserError(
            f"Nuclei.csv of {folder} holds several sites, so the Image.csv beside it is needed to "
            "tell them apart."
        )
    sites = _read(image, ["ImageNumber", *SITE], f"Image.csv of {folder}").drop_duplicates(
        "ImageNumber"
    )
    name = f"Image.csv of {folder}"
    sites["Metadata_Well"] = well_names(sites["Metadata_Well"], name)
    sites["Metadata_Site"] = site_numbers(sites["Metadata_Site"], name)
    table = table.merge(sites, on="ImageNumber", how="left", validate="m:1")
    unknown = table["Metadata_Site"].isna().sum()
    if unknown:
        raise UserError(f"Image.csv of {folder} lacks the image numbers of {unknown} nuclei.")
    return table.astype({"Metadata_Site": int})[NUCLEI]


def _read(path: str | os.PathLike, columns: Sequence[str], name: str) -> pd.DataFrame:
    """Read a few of the hundreds of columns that the gallery's tables have."""
    kinds = {"Metadata_Well": str} | dict.fromkeys(LOCATION, float)
    try:
        return pd.read_csv(path, usecols=list(columns), dtype=kinds)[list(columns)]
    except FileNotFoundError:
        raise UserError(f"{name} does not exist at {path}.") from None
    except (ValueError, OSError, EOFError, zlib.error, pd.errors.ParserError) as error:
        raise UserError(f"{name} cannot be read: {error}.") from error
