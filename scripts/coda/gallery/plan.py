"""What a run would download, and the disk that it needs: by source, from listings alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from coda.errors import UserError
from coda.gallery.base import FetchError, Gallery, fetching
from coda.gallery.illumination_files import list_functions
from coda.gallery.nuclei_tables import list_groups
from coda.gallery.planes import file_key
from coda.logs import tell

COUNTS = ["plates", "wells", "sites", "objects", "absent", "bytes"]
SIZES = ["function_bytes", "absent_functions", "nuclei_bytes", "crop_bytes"]


@dataclass(frozen=True)
class Wanted:
    """What of a plate is downloaded and kept.

    Attributes
    ----------
    channels : sequence of str
        Channels whose images are downloaded.
    functions, nuclei : bool
        Whether the gallery's own illumination functions and tables of nuclei are too.
    crop_bytes : int or None
        Bytes of crops that a site leaves on the disk; None where that is not known beforehand.
    plates_in_flight : int or None
        How many plates' images may lie on the disk at once; None if all of them stay.
    """

    channels: Sequence[str]
    functions: bool = False
    nuclei: bool = False
    crop_bytes: int | None = None
    plates_in_flight: int | None = None


def plan_download(
    galleries: list[Gallery],
    plates: pd.DataFrame,
    indexes: list[pd.DataFrame],
    wanted: Wanted,
    workers: int = 16,
) -> pd.DataFrame:
    """Count what downloading the plates would bring, without downloading an image.

    Parameters
    ----------
    galleries
        Where the images of each plate lie; their folders are listed.
    plates
        One row per plate, with ``Metadata_Source`` and ``Metadata_Plate``.
    indexes
        The site index of each plate, in the order of `plates`, with ``Key_<channel>``.
    wanted
        What would be downloaded and kept.
    workers
        Plates listed at once.

    Returns
    -------
    pandas.DataFrame
        A row per source, in the order of their names, and the row ``all``: the number of plates,
        wells, sites, images to fetch (``objects``), images ``absent`` from the gallery though
        indexed, and the ``bytes`` of the images; ``function_bytes`` and ``nuclei_bytes``, fetched
        beside them; ``absent_functions``, illumination functions that are wanted and not there;
        ``crop_bytes``, which stay (missing where unknown); and ``peak_bytes``, the most that the
        images of ``plates_in_flight`` plates, with functions and crops, take on the disk.

    Raises
    ------
    UserError
        If a gallery is down or does not list a folder.
    """
    with fetching(workers, *set(galleries)) as pool:
        counted = list(pool.map(lambda *plate: count_plate(*plate, wanted), galleries, indexes))
    table = pd.DataFrame(counted, columns=COUNTS + SIZES).astype("Int64")
    sources = plates["Metadata_Source"].to_numpy()
    rows = {source: add_up(part, wanted) for source, part in table.groupby(sources)}
    rows["all"] = add_up(table, wanted)
    plan = pd.DataFrame.from_dict(rows, orient="index").astype("Int64")
    return plan.rename_axis("Metadata_Source").reset_index()


def count_plate(gallery: Gallery, index: pd.DataFrame, wanted: Wanted) -> list[int | None]:
    """Count one plate, see `COUNTS` and `SIZES`, by listing the folders that its keys name."""
    keys = {
        file_key(key) for channel in wanted.channels for key in index[f"Key_{channel}"].dropna()
    }
    folders = {key.rpartition("/")[0] for key in keys}
    try:
        sizes = {
            entry.key: entry.bytes
            for folder in folders
            for entry in gallery.entries(folder)
            if entry.key in keys
        }
        functions = list_functions(gallery, index, wanted.channels) if wanted.functions else {}
    except FetchError as error:
        plate = " ".join(index[["Metadata_Source", "Metadata_Plate"]].iloc[0])
        raise UserError(
            f"{gallery.root} did not list the plate {plate}: {error}; try again."
        ) from error
    lacking = [name for name in wanted.channels if wanted.functions and name not in functions]
    if lacking:
        plate = " ".join(index[["Metadata_Source", "Metadata_Plate"]].iloc[0])
        tell(f"{plate}: the gallery has no illumination function of {', '.join(lacking)}")
    groups = list_groups(gallery, index) if wanted.nuclei else []
    tables = [table for group in groups for table in (group.nuclei, group.images) if table]
    return [
        1,
        index["Metadata_Well"].nunique(),
        len(index),
        len(sizes),
        len(keys) - len(sizes),
        sum(sizes.values()),
        sum(entry.bytes for entry in functions.values()),
        len(lacking),
        sum(entry.bytes for entry in tables),
        None if wanted.crop_bytes is None else len(index) * wanted.crop_bytes,
    ]


def add_up(table: pd.DataFrame, wanted: Wanted) -> dict[str, int]:
    """Sum the counts of plates; at the peak, the largest plates that can lie side by side meet all that stays."""
    sums = table.sum(min_count=1)
    images = table["bytes"].nlargest(wanted.plates_in_flight or len(table)).sum()
    stay = sums[["function_bytes", "crop_bytes"]].fillna(0).sum()
    return dict(sums) | {"peak_bytes": images + stay}


def format_plan(plan: pd.DataFrame) -> str:
    """Lay a plan out as text for a terminal, bytes as gigabytes (10^9); what nothing is of is left out.

    The mean size of an image is in megabytes (10^6).
    """
    empty = [name for name in SIZES if plan[name].fillna(0).eq(0).all()]
    words = {"bytes": "GB of images", "function_bytes": "of functions", "nuclei_bytes": "of nuclei"}
    words |= {"absent_functions": "functions absent"}
    words |= {"crop_bytes": "of crops", "peak_bytes": "GB of disk at the peak"}
    mean = plan["bytes"].astype(float) / plan["objects"].astype(float) / 1e6
    shown = plan.drop(columns=empty)
    shown.insert(shown.columns.get_loc("bytes") + 1, "MB an image", mean)
    shown = shown.rename(columns={"Metadata_Source": "source", **words})
    formatters = dict.fromkeys(words.values(), lambda size: f"{size / 1e9:,.1f}")
    formatters |= {name: "{:,}".format for name in [*COUNTS, "functions absent"] if name != "bytes"}
    formatters["MB an image"] = lambda size: "" if math.isnan(size) else f"{size:.2f}"
    lines = [shown.to_string(index=False, formatters=formatters)]
    if plan["absent_functions"].sum():
        lines.append(
            "Illumination functions are absent (the log names them), and crops.illumination is gallery: set it to "
            "auto, or leave those plates out (exclude_plates)."
        )
    if plan["crop_bytes"].isna().all():
        lines.append(
            "The disk at the peak is without the crops, whose number is not known beforehand."
        )
    return "\n".join(lines)
