"""What a run would download: objects and bytes by source, from listings alone."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from coda.gallery import Gallery

COUNTS = ["plates", "wells", "sites", "objects", "absent", "bytes"]


def plan_download(
    galleries: list[Gallery],
    plates: pd.DataFrame,
    indexes: list[pd.DataFrame],
    channels: list[str],
    plates_in_flight: int | None,
    workers: int = 16,
) -> pd.DataFrame:
    """Count what downloading the plates would bring, without downloading an image.

    Parameters
    ----------
    galleries
        Where the images of each plate lie; their folders are listed.
    plates
        One row a plate, with ``Metadata_Source`` and ``Metadata_Plate``.
    indexes
        The site index of each plate, in the order of `plates`, with ``Key_<channel>``.
    channels
        Channels that would be downloaded.
    plates_in_flight
        How many plates may lie on the disk at once; None if all of them stay.
    workers
        Plates listed at once.

    Returns
    -------
    pandas.DataFrame
        A row a source, in the order of their names, and the row ``all``: the number of plates,
        wells, sites, objects to fetch, objects ``absent`` from the gallery though indexed, their
        ``bytes``, and ``peak_bytes``, the most that the images of ``plates_in_flight`` plates can
        take on the disk.
    """
    with ThreadPoolExecutor(workers) as pool:
        counted = list(pool.map(lambda *plate: count_plate(*plate, channels), galleries, indexes))
    table = pd.DataFrame(counted, columns=COUNTS)
    sources = plates["Metadata_Source"].to_numpy()
    rows = {source: add_up(part, plates_in_flight) for source, part in table.groupby(sources)}
    rows["all"] = add_up(table, plates_in_flight)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Metadata_Source").reset_index()


def count_plate(gallery: Gallery, index: pd.DataFrame, channels: list[str]) -> list[int]:
    """Count one plate, see `COUNTS`, by listing the folders that its keys name."""
    keys = {key for channel in channels for key in index[f"Key_{channel}"].dropna()}
    folders = {key.rpartition("/")[0] for key in keys}
    sizes = {
        entry.key: entry.bytes
        for folder in folders
        for entry in gallery.entries(folder)
        if entry.key in keys
    }
    return [
        1,
        index["Metadata_Well"].nunique(),
        len(index),
        len(sizes),
        len(keys) - len(sizes),
        sum(sizes.values()),
    ]


def add_up(table: pd.DataFrame, plates_in_flight: int | None) -> dict[str, int]:
    """Sum the counts of plates; the peak is the size of the largest that can lie side by side."""
    peak = table["bytes"].nlargest(plates_in_flight or len(table)).sum()
    return {name: int(table[name].sum()) for name in COUNTS} | {"peak_bytes": int(peak)}


def format_plan(plan: pd.DataFrame) -> str:
    """Lay a plan out as text for a terminal, bytes as gigabytes (10^9)."""
    shown = plan.rename(
        columns={"Metadata_Source": "source", "bytes": "GB", "peak_bytes": "GB at the peak"}
    )
    formatters = {name: "{:,}".format for name in COUNTS if name != "bytes"}
    formatters |= dict.fromkeys(["GB", "GB at the peak"], lambda size: f"{size / 1e9:,.1f}")
    return shown.to_string(index=False, formatters=formatters)
