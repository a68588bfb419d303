"""The interface of a gallery of images: objects by key, listed, read and fetched."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coda.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One object as listed: key relative to the root, size, and ETag (None in a local folder)."""

    key: str
    bytes: int
    etag: str | None


@dataclass(frozen=True)
class Fetched:
    """One object as fetched.

    Attributes
    ----------
    bytes, etag, md5
        Of the object; `md5` is None if it was linked instead of copied.
    attempts, seconds
        How many, and how long all of them took.
    checked
        What its bytes were compared with: ``md5``, ``parts`` (the MD5s of the parts of its upload), or only
        its ``size``; None if it was linked.
    """

    bytes: int
    etag: str | None
    md5: str | None
    attempts: int
    seconds: float
    checked: str | None = None


class FetchError(Exception):
    """An object that did not arrive, after how many attempts and seconds; the message says why."""

    status = "broken"

    def __init__(self, reason: str, attempts: int = 1, seconds: float = 0.0):
        super().__init__(reason)
        self.reason, self.attempts, self.seconds = reason, attempts, seconds


class BrokenObject(FetchError):
    """An object that the gallery has but did not deliver whole within the attempts allowed."""


class MissingObject(FetchError, FileNotFoundError):
    """An object that the gallery does not have."""

    status = "missing"


class GalleryDown(UserError):
    """A gallery that does not answer."""


class Gallery(ABC):
    """Objects to read, by key relative to a root; a prefix names a folder, "" the root."""

    root: str

    @abstractmethod
    def read(self, key: str, listed: Entry | None = None) -> bytes:
        """Give the content of a small object (a table); FileNotFoundError if it is absent.

        What arrives is compared with what was `listed` of it.
        """

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]:
        """List all objects below a folder, in the order of their keys; none if it is absent."""

    @abstractmethod
    def folders(self, prefix: str) -> list[str]:
        """List the keys of the folders directly in a folder, sorted; none if it is absent."""

    def listed(self, keys: Iterable[str]) -> dict[str, Entry] | None:
        """List those of `keys` that the gallery has; None where a listing would prove nothing more."""
        return None

    @abstractmethod
    def fetch(self, key: str, path: Path, listed: Entry | None = None) -> Fetched:
        """Fetch one object to `path`, checked against the size and checksum that the gallery gives.

        An answer to another request, out of step, is whole too: what arrives is compared with what was
        `listed` of the object.

        Raises
        ------
        MissingObject
            If there is no such object.
        BrokenObject
            If it does not arrive whole within the attempts allowed.
        GalleryDown
            If the gallery as a whole does not answer.
        OSError
            If `path` cannot be written, for example because the disk is full.
        """

    def wait_longer(self) -> None:  # noqa: B027 - a folder has no attempts
        """Wait longer between attempts from now on."""

    def stop(self) -> None:  # noqa: B027 - a folder has no attempts
        """End what other threads are fetching, and all that is fetched later."""


@contextmanager
def fetching(workers: int, *galleries: Gallery) -> Iterator[ThreadPoolExecutor]:
    """Give threads that fetch from galleries; whatever ends the block early, such as Ctrl-C, ends their waiting."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    except BaseException:
        for gallery in galleries:
            gallery.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def checked_key(key: str) -> str:
    """Give `key` back if it stays below the root whatever the store makes of it.

    Raises
    ------
    UserError
        If it is empty, absolute, holds a backslash or a control character, or a part that is
        empty, ``.`` or ``..``.
    """
    parts = key.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in key
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in key)
    ):
        raise UserError(
            f"The key {key!r} is refused: it does not lie within the gallery (gallery.root); "
            "correct it in its table, or leave it out."
        )
    return key


def checked_prefix(prefix: str) -> str:
    """Give a folder's prefix with its closing slash ("" for the root), refused like a key."""
    prefix = prefix.removesuffix("/")
    return checked_key(prefix) + "/" if prefix else ""
