"""A journal of the files that have arrived: trusted after a kill, checked again after a reboot."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Journal:
    """The files that have arrived in a folder, one line of JSON per file; a kill loses only unfinished ones.

    A line is written after its file has its name. Files and lines may still be in the memory of the
    machine; when it goes down, either can be lost without the other. So every opening of the
    journal records the machine's boot, and files from another boot (or another machine) are hashed
    again before they are trusted.
    """

    NAME = "journal.jsonl"

    def __init__(self, folder: Path, workers: int):
        self.folder, self.lock, self.boot = folder, threading.Lock(), boot_id()
        path = folder / self.NAME
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        known, boot = {}, None
        for line in filter(None, lines):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue  # cut off by a kill or a full disk, or of something else
            if not isinstance(row, dict):
                continue
            if "boot" in row:
                boot = row["boot"]
            elif _is_name(row.get("file")) and {"key", "bytes", "md5", "status"} <= set(row):
                known[row["file"]] = (row, boot is not None and boot == self.boot)
        with ThreadPoolExecutor(workers) as pool:
            whole = list(pool.map(lambda pair: self.is_whole(*pair), known.values()))
        self.done = {
            file: row for (file, (row, _)), good in zip(known.items(), whole, strict=True) if good
        }
        self.handle = open(path, "ab")  # noqa: SIM115 - closed by __exit__
        # A line cut off must not swallow the next one.
        self.write(b"\n" if lines[-1] else b"", {"boot": self.boot})

    def __enter__(self) -> "Journal":
        """Give the journal, open for writing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.handle.close()

    def has(self, item: dict) -> bool:
        """Tell whether the file of a manifest row has arrived, and from the same key."""
        return self.done.get(item["file"], {}).get("key") == item["key"] is not None

    def add(self, row: dict) -> None:
        """Write down a manifest row of an object that has arrived."""
        self.write(b"", row)

    def write(self, before: bytes, row: dict) -> None:
        """Append a line, in one piece: several workers write."""
        with self.lock:
            self.handle.write(before + json.dumps(row).encode() + b"\n")
            self.handle.flush()

    def is_whole(self, row: dict, same_boot: bool) -> bool:
        """Tell whether a file is still what the journal says."""
        path = self.folder / row["file"]
        try:
            if not path.is_file() or path.stat().st_size != row["bytes"]:
                return False
            if same_boot or row["md5"] is None:
                return True
            with open(path, "rb") as handle:
                return hashlib.file_digest(handle, "md5").hexdigest() == row["md5"]
        except (OSError, ValueError):  # the latter for what can be no name
            return False


def _is_name(file: object) -> bool:
    """Whether it is the name of a file in the folder, and not a path to elsewhere, such as a device without end."""
    return isinstance(file, str) and "/" not in file


def boot_id() -> str | None:
    """Name this run of this machine, from boot to shutdown; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
