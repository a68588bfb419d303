"""The checksum of a crop store, within the file: whether it is still, to the bit, what was written.

The SHA-256 stands in the schema's metadata, which an Arrow file holds at its beginning and at its end; in both places
it counts as zeros for the checksum. Reading gigabytes again in every job would cost more than it finds, so who has
compared a file notes its size and times beside it, and it is compared again only if these differ.
"""

import hashlib
import json
import mmap
import os
from contextlib import suppress
from pathlib import Path

from coda.errors import UserError
from coda.files import write_json

OPEN = "0" * 64  # in the place of a checksum that is not known yet
PART = 2**24  # bytes


def seal(path: Path) -> None:
    """Put the checksum of a file into the two places that hold `OPEN`."""
    with open(path, "r+b") as handle, mmap.mmap(handle.fileno(), 0) as content:
        places = _places(content, OPEN.encode())
        checksum = _checksum(content, places)
        for place in places:
            content[place : place + len(OPEN)] = checksum.encode()
        content.flush()


def check_seal(path: Path, stated: str) -> None:
    """Compare a file with the checksum that its metadata state, unless that was done since it changed last.

    Raises
    ------
    UserError
        If they differ.
    """
    state = _state(path, stated)
    if _noted(path) == state:
        return
    with (
        open(path, "rb") as handle,
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        try:
            whole = _checksum(content, _places(content, stated.encode())) == stated
        except ValueError:
            whole = False
    if not whole:
        raise UserError(
            f"The crops {path} are not what was written: their checksum differs; delete the file and make it again."
        )
    _write_note(path, state)


def note_seal(path: Path, checksum: str) -> None:
    """Note that a file has its checksum, of who has just written both."""
    _write_note(path, _state(path, checksum))


def _write_note(path: Path, state: dict[str, str | int]) -> None:
    with suppress(OSError):  # a folder that cannot be written
        write_json(state, _note(path))


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.checked")


def _noted(path: Path) -> object:
    with suppress(OSError, ValueError):
        return json.loads(_note(path).read_bytes())
    return None


def _state(path: Path, checksum: str) -> dict[str, str | int]:
    """What is different after any change: the time of the last change of state cannot be set by hand."""
    found = os.stat(path)
    return {
        "checksum": checksum,
        "bytes": found.st_size,
        "modified": found.st_mtime_ns,
        "changed": found.st_ctime_ns,
    }


def _places(content: mmap.mmap, mark: bytes) -> tuple[int, int]:
    """Find the two places of a checksum."""
    first, last = content.find(mark), content.rfind(mark)
    if not 0 <= first < last:
        raise ValueError("the checksum does not stand in both places")
    return first, last


def _checksum(content: mmap.mmap, places: tuple[int, int]) -> str:
    """SHA-256 of a file with zeros in `places`."""
    digest, begin = hashlib.sha256(), 0
    with memoryview(content) as view:
        for place in (*places, len(content)):
            for start in range(begin, place, PART):
                with view[start : min(start + PART, place)] as part:
                    digest.update(part)
            if place < len(content):
                digest.update(OPEN.encode())
            begin = place + len(OPEN)
    return digest.hexdigest()
