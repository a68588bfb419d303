"""Bringing one plate's images from the gallery: verified, listed, and never twice."""

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from coda.errors import UserError
from coda.files import write_table
from coda.gallery import FetchError, Gallery
from coda.journal import Journal
from coda.progress import Progress
from coda.tiff import BrokenImage, check_header

# The name of a file is made of these alone, so no table can make one that leaves its folder.
WELL = re.compile(r"[A-Z]{1,2}[0-9]{2}")
CHANNEL = re.compile(r"[A-Za-z0-9]+")
SITE_COLUMNS = ["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]
NUMBERS = {"bytes": "Int64", "attempts": "Int64", "seconds": "float64"}
COLUMNS = [
    *SITE_COLUMNS,
    "channel",
    "key",
    "file",
    "bytes",
    "etag",
    "md5",
    "attempts",
    "seconds",
    "status",
    "reason",
]
NAMED = 10  # lost objects named in a message; the manifest names them all


def download_plate(
    gallery: Gallery,
    index: pd.DataFrame,
    channels: list[str],
    folder: Path,
    manifest: Path,
    max_lost: float,
    workers: int = 32,
) -> None:
    """Bring the images of one plate into `folder` and write its manifest.

    The images arrive in ``<folder>.partial``, which takes the name `folder` when it is complete. A
    journal in it names what has arrived and been verified; after a kill, a full disk or a lost
    network the next call goes on from there. An image that is missing or broken costs its site, up
    to `max_lost` of the plate's sites.

    Parameters
    ----------
    gallery
        Where the images lie.
    index
        One row a site, with `SITE_COLUMNS` and ``Key_<channel>``, of one plate.
    channels
        Channels to bring, in the order in which the manifest lists them.
    folder
        Where the images go, named ``{well}_s{site}_{channel}.tiff``.
    manifest
        A Parquet table with a row an object, see `COLUMNS`; ``status`` is ``ok``, ``missing`` or
        ``broken``, and ``reason`` says why.
    max_lost
        Share of the sites, 0 to 1, that may be lost.
    workers
        Objects fetched at once.

    Raises
    ------
    UserError
        If too many sites are lost, the gallery is down, the disk is full, or a well, site or key in
        `index` cannot be right.
    """
    objects = plate_objects(index, channels)
    name = f"{objects[0]['Metadata_Source']} {objects[0]['Metadata_Plate']}"
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    with told_if_full(partial):
        partial.mkdir(parents=True, exist_ok=True)
        with Journal(partial, workers) as journal:
            rows = fetch_all(gallery, objects, partial, journal, name, workers)
        table = pd.DataFrame(rows, columns=COLUMNS).astype(NUMBERS)
        judge_losses(table, name, max_lost)
        keep = set(table.loc[table.status == "ok", "file"]) | {Journal.NAME}
        for file in os.listdir(partial):
            if file not in keep:
                os.unlink(partial / file)
        write_table(table, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        (folder / Journal.NAME).unlink()


def plate_objects(index: pd.DataFrame, channels: list[str]) -> list[dict]:
    """List the objects of a plate as beginnings of manifest rows, under file names of our own.

    Raises
    ------
    UserError
        If the index is empty, or a well, site or channel is malformed or occurs twice.
    """
    if index.empty:
        raise UserError(
            "The plate's index holds no site; check the wells and sites selected in the config."
        )
    if unfit := [channel for channel in channels if not CHANNEL.fullmatch(channel)]:
        raise UserError(
            f"The channel {unfit[0]!r} in the config must be made of letters and digits."
        )
    objects, seen = [], set()
    keys = [index[f"Key_{channel}"] for channel in channels]
    for source, plate, well, site, *row in zip(
        *(index[column] for column in SITE_COLUMNS), *keys, strict=True
    ):
        if not WELL.fullmatch(str(well)) or not 0 <= int(site) < 1000:
            raise UserError(
                f"The index of plate {plate} names the well {well!r}, site {site!r}; "
                "wells look like A01, sites count from 0 or 1."
            )
        for channel, key in zip(channels, row, strict=True):
            file = f"{well}_s{int(site)}_{channel}.tiff"
            if file in seen:
                raise UserError(
                    f"The index of plate {plate} names well {well}, site {site}, {channel} twice."
                )
            seen.add(file)
            key = key if isinstance(key, str) else None
            objects.append(
                dict(
                    zip(SITE_COLUMNS, (source, plate, well, int(site)), strict=True),
                    channel=channel,
                    key=key,
                    file=file,
                )
            )
    return objects


def fetch_all(
    gallery: Gallery,
    objects: list[dict],
    partial: Path,
    journal: Journal,
    name: str,
    workers: int,
) -> list[dict]:
    """Fetch what the journal does not have; give the manifest's rows, in the order of `objects`."""
    rows = {
        item["file"]: journal.done[item["file"]] | item for item in objects if journal.has(item)
    }
    if rows:
        print(
            f"download {name}: {len(rows):,} images are here already", file=sys.stderr, flush=True
        )
    progress = Progress(f"download {name}", len(objects) - len(rows), "images")
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = [item for item in objects if item["file"] not in rows]
        size = 0
        for row in pool.map(lambda item: fetch_one(gallery, item, partial, journal), waiting):
            rows[row["file"]] = row
            size += row["bytes"] or 0
            progress.update(gigabytes=size / 1e9)
    finally:
        pool.shutdown(cancel_futures=True)
    return [rows[item["file"]] for item in objects]


def fetch_one(gallery: Gallery, item: dict, partial: Path, journal: Journal) -> dict:
    """Fetch one object under a temporary name, verify it, give it its name and write it down."""
    row = item | dict.fromkeys(["bytes", "etag", "md5", "reason"]) | {"attempts": 0, "seconds": 0.0}
    if item["key"] is None:
        return row | {"status": "missing", "reason": "the index has no key for it"}
    part = partial / f"{item['file']}.part"
    try:
        part.unlink(missing_ok=True)
        fetched = gallery.fetch(item["key"], part)
        row |= vars(fetched)
        check_header(part)
        os.replace(part, partial / item["file"])
    except BrokenImage as error:
        return row | {"status": "broken", "reason": str(error)}
    except FetchError as error:
        return row | {
            "attempts": error.attempts,
            "seconds": error.seconds,
            "status": error.status,
            "reason": error.reason,
        }
    finally:
        part.unlink(missing_ok=True)
    row["status"] = "ok"
    journal.add(row)
    return row


def judge_losses(table: pd.DataFrame, name: str, max_lost: float) -> None:
    """Say which sites are lost, or raise `UserError` if they are more than `max_lost` of all."""
    bad = table[table.status != "ok"]
    if bad.empty:
        return
    lost, sites = (len(rows[SITE_COLUMNS].drop_duplicates()) for rows in (bad, table))
    kinds = ", ".join(f"{count} {status}" for status, count in bad.status.value_counts().items())
    named = "; ".join(
        f"{key} ({reason})" for key, reason in zip(bad.key[:NAMED], bad.reason[:NAMED], strict=True)
    )
    named += "; ..." if len(bad) > NAMED else ""
    told = f"{name} loses {lost} of {sites} sites ({lost / sites:.2%}), images {kinds}: {named}"
    if lost > max_lost * sites:
        raise UserError(
            f"{told}. That is more than gallery.max_lost = {max_lost:g} allows: leave the plate "
            "out or raise gallery.max_lost and start again; what has arrived is kept."
        )
    print(told, file=sys.stderr, flush=True)


@contextmanager
def told_if_full(partial: Path) -> Iterator[None]:
    """Turn the error of a full disk or quota into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk that holds {partial} is full: free some space or lower "
            "plates_in_flight, and start again; what has arrived is kept."
        ) from error
