"""Download the images of one plate: verified, listed, and resumed where an earlier job stopped."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from coda.columns import SITE_KEYS
from coda.errors import UserError
from coda.files import read_table, write_table
from coda.gallery.base import Entry, FetchError, Gallery, fetching
from coda.gallery.disk_quota import beside, check_room, marked_if_down, told_if_full
from coda.gallery.download_log import Journal
from coda.gallery.input_warnings import missing_sites
from coda.gallery.site_index import LAST_SITE
from coda.gallery.tiff import BrokenImage, check_header, read_tiff
from coda.locks import alone
from coda.logs import tell
from coda.orphans import orphaned
from coda.progress import Progress

# The name of a file is made of these alone, so no table can make one that leaves its folder.
WELL = re.compile(r"[A-Z]{1,2}[0-9]{2}")
CHANNEL = re.compile(r"[A-Za-z0-9]+")
NUMBERS = {"bytes": "Int64", "attempts": "Int64", "seconds": "float64"}
COLUMNS = [
    *SITE_KEYS,
    "channel",
    "key",
    "file",
    "bytes",
    "etag",
    "md5",
    "checked",
    "attempts",
    "seconds",
    "status",
    "reason",
]
NAMED = 10  # lost objects listed in a message; all are in the manifest or, without one, in the log


def download_plate(
    gallery: Gallery,
    index: pd.DataFrame,
    channels: list[str],
    folder: Path,
    manifest: Path,
    max_lost: float,
    workers: int = 32,
    plates_in_flight: int | None = None,
    patience: float = 600.0,
) -> None:
    """Download the images of one plate into `folder` and write its manifest.

    The images arrive in ``<folder>.partial``, which takes the name `folder` when it is complete. A
    journal in it names what has arrived and been verified; after a kill, a full disk or a lost
    network the next call goes on from there. An image that is missing or broken costs its site, up
    to `max_lost` of the plate's sites. If another process is downloading the plate already, it is waited for
    and its result is used.

    Parameters
    ----------
    gallery
        Where the images lie.
    index
        One row per site, with `SITE_KEYS` and ``Key_<channel>``, of one plate.
    channels
        Channels to download, in the order in which the manifest lists them.
    folder
        Where the images go, named ``{well}_s{site}_{channel}.tiff``.
    manifest
        A Parquet table with a row per object, see `COLUMNS`; ``status`` is ``ok``, ``missing`` or
        ``broken``, and ``reason`` says why; ``checked`` says with what its bytes were compared, see `Fetched`.
    max_lost
        Share of the sites, 0 to 1, that may be lost.
    workers
        Objects fetched at once.
    plates_in_flight
        How many plates may have images on the disk at once, see `check_room`; None for any number.
    patience
        Seconds to wait for another process that downloads the plate, one that outlived its Snakemake.

    Raises
    ------
    UserError
        If too many sites are lost, the gallery is down, the disk or its share for images is full,
        another process downloads the plate for longer than `patience`, a well, site or key in `index`
        cannot be right, or a link lies where the images go.
    """
    objects = plate_objects(index, channels)
    name = f"{objects[0]['Metadata_Source']} {objects[0]['Metadata_Plate']}"
    folder, partial = Path(folder), beside(folder, "partial")
    does = f"fetches the plate {name} into {partial}"
    with told_if_full(partial), alone(beside(folder, "lock"), does, patience):
        refuse_links(folder, partial)
        if is_complete(objects, folder, manifest):
            return judge_losses(read_table(manifest), name, max_lost, missing_sites(index))
        if plates_in_flight is not None:
            check_room(folder, plates_in_flight)
        partial.mkdir(parents=True, exist_ok=True)
        with marked_if_down(partial), Journal(partial, workers) as journal:
            rows = fetch_all(gallery, objects, partial, journal, name, workers)
        table = pd.DataFrame(rows, columns=COLUMNS).astype(NUMBERS)
        judge_losses(table, name, max_lost, missing_sites(index))
        keep = set(table.loc[table.status == "ok", "file"]) | {Journal.NAME}
        for file in os.listdir(partial):
            if file not in keep:
                remove(partial / file)
        if orphaned():
            tell(
                f"download {name}: the Snakemake of this job has ended; the images stay in {partial} for the next start"
            )
            return
        os.sync()  # else a power cut could leave images without bytes that the manifest calls good
        write_table(table, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        (folder / Journal.NAME).unlink()


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder that something else has put there, such as ``@eaDir``."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def refuse_links(*folders: Path) -> None:
    """Refuse a link in the place of a folder that is cleared: what it points to would be deleted."""
    for folder in folders:
        if folder.is_symlink():
            raise UserError(f"{folder} is a link, which is not followed; remove it.")


def is_complete(objects: list[dict], folder: Path, manifest: Path) -> bool:
    """Tell whether the plate has been completed since this job started.

    Snakemake removes outputs before it starts a job, so only a process that was waited for can have
    made them.
    """
    if not (folder.is_dir() and Path(manifest).is_file()):
        return False
    table = read_table(manifest, ["file", "key", "status"])
    wanted = {(item["file"], item["key"]) for item in objects}
    keys = table["key"].where(table["key"].notna(), None)
    good = set(table.loc[table["status"] == "ok", "file"])
    return set(zip(table["file"], keys, strict=True)) == wanted and good <= set(os.listdir(folder))


def plate_objects(index: pd.DataFrame, channels: list[str]) -> list[dict]:
    """List the objects of a plate as incomplete manifest rows, with the names that their files get.

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
        *(index[column] for column in SITE_KEYS), *keys, strict=True
    ):
        if not WELL.fullmatch(str(well)) or not 0 <= int(site) <= LAST_SITE:
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
                    zip(SITE_KEYS, (source, plate, well, int(site)), strict=True),
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
    """Fetch what is not in the journal; give the manifest's rows, in the order of `objects`.

    What was lost to temporary faults is requested once more, with longer waits, after the rest of
    the plate: a gallery that throttles its readers loses no image for good. It ends
    when as many in a row as are requested at once fail again.
    """
    rows = {
        item["file"]: journal.done[item["file"]] | item for item in objects if journal.has(item)
    }
    if rows:
        tell(f"download {name}: {len(rows):,} images are here already")
    waiting = [item for item in objects if item["file"] not in rows]
    progress, size = Progress(f"download {name}", len(waiting), "images"), 0
    listed = list_objects(gallery, waiting, name)
    with all_at_once(gallery, waiting, listed, partial, journal, workers) as fetched:
        for row in fetched:
            rows[row["file"]] = row
            size += row["bytes"] or 0
            progress.update(gigabytes=size / 1e9)
    again = [item for item in waiting if may_pass(rows[item["file"]])]
    if not again:
        return [rows[item["file"]] for item in objects]
    tell(f"download {name}: {len(again):,} images are requested again, with longer waits")
    gallery.wait_longer()
    failed = 0
    with all_at_once(gallery, again, listed, partial, journal, workers) as fetched:
        for row in fetched:
            before = rows[row["file"]]
            rows[row["file"]] = row | {
                count: before[count] + row[count] for count in ("attempts", "seconds")
            }
            failed = failed + 1 if may_pass(row) else 0
            if failed == workers:
                break
    return [rows[item["file"]] for item in objects]


def may_pass(row: dict) -> bool:
    """Tell whether an image was lost to temporary errors: nothing arrived, or what did may not be what was sent."""
    return row["status"] == "broken" and (row["bytes"] is None or row["checked"] == "size")


@contextmanager
def all_at_once(
    gallery: Gallery,
    items: list[dict],
    listed: dict[str, Entry] | None,
    partial: Path,
    journal: Journal,
    workers: int,
) -> Iterator[Iterator[dict]]:
    """Fetch objects, several at once; give their rows in order. Leaving the block ends the rest."""
    with fetching(workers, gallery) as pool:
        yield pool.map(lambda item: fetch_one(gallery, item, listed, partial, journal), items)


def list_objects(gallery: Gallery, items: list[dict], name: str) -> dict[str, Entry] | None:
    """List what the gallery has of the objects of a plate, see `Gallery.listed`."""
    try:
        return gallery.listed(item["key"] for item in items if item["key"] is not None)
    except FetchError as error:
        raise UserError(
            f"{gallery.root} did not list the images of {name}: {error}; try again."
        ) from error


def fetch_one(
    gallery: Gallery,
    item: dict,
    listed: dict[str, Entry] | None,
    partial: Path,
    journal: Journal,
) -> dict:
    """Fetch one object under a temporary name, verify it, give it its name and write it down.

    Where its bytes can be compared with no checksum, its pixels are decoded.
    """
    row = item | dict.fromkeys(["bytes", "etag", "md5", "checked", "reason"])
    row |= {"attempts": 0, "seconds": 0.0}
    if item["key"] is None:
        return row | {"status": "missing", "reason": "the index has no key for it"}
    if listed is not None and item["key"] not in listed:
        return row | {"status": "missing", "reason": "the gallery does not list it"}
    part = partial / f"{item['file']}.part"
    try:
        part.unlink(missing_ok=True)
        fetched = gallery.fetch(item["key"], part, listed and listed[item["key"]])
        row |= vars(fetched)
        check_header(part)
        if fetched.checked == "size":
            read_tiff(part)
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


def judge_losses(table: pd.DataFrame, name: str, max_lost: float, missing: int = 0) -> None:
    """Say which sites are lost, or raise `UserError` if they are more than `max_lost` of all.

    Sites that are `missing` from the plate's tables already count among them.
    """
    bad = table[table.status != "ok"]
    if bad.empty:
        return
    lost, sites = (len(rows[SITE_KEYS].drop_duplicates()) + missing for rows in (bad, table))
    kinds = ", ".join(f"{count} {status}" for status, count in bad.status.value_counts().items())
    named = "; ".join(
        f"{key} ({reason})" for key, reason in zip(bad.key[:NAMED], bad.reason[:NAMED], strict=True)
    )
    named += "; ..." if len(bad) > NAMED else ""
    before = f", {missing} of them not in its tables" if missing else ""
    told = f"{name} loses {lost} of {sites} sites ({lost / sites:.2%}{before}), images {kinds}: {named}"
    if lost > max_lost * sites:
        # No manifest is written, so the log is where all of them are named.
        tell(
            "\n".join(
                f"lost: {key} ({reason})" for key, reason in zip(bad.key, bad.reason, strict=True)
            )
        )
        raise UserError(
            f"{told}. That is more than gallery.max_lost = {max_lost:g} allows: leave the plate "
            "out or raise gallery.max_lost and start again; what has arrived is kept."
        )
    tell(told)
