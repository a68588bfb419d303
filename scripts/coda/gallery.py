"""Where the images lie: the gallery on S3 or a local folder of the same layout."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coda.errors import UserError
from coda.metadata import tell


@dataclass(frozen=True)
class Entry:
    """One object as listed: key relative to the root, size, and ETag (None in a local folder)."""

    key: str
    bytes: int
    etag: str | None


@dataclass(frozen=True)
class Fetched:
    """One object as fetched; `md5` is None where the bytes did not pass through our hands."""

    bytes: int
    etag: str | None
    md5: str | None
    attempts: int
    seconds: float


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
    """Objects by key, relative to a root, to be read; prefixes name folders, "" the root."""

    root: str

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Give the content of a small object (a table); FileNotFoundError if it is absent."""

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]:
        """List all objects below a folder, in the order of their keys; none if it is absent."""

    @abstractmethod
    def folders(self, prefix: str) -> list[str]:
        """List the keys of the folders directly in a folder, sorted; none if it is absent."""

    @abstractmethod
    def fetch(self, key: str, path: Path) -> Fetched:
        """Bring one object to `path`, checked against the size and checksum that the gallery gives.

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
        """Leave more time between attempts from now on, where there are any."""


def open_gallery(
    root: str,
    endpoint: str | None = None,
    region: str = "us-east-1",
    workers: int = 32,
    attempts: int = 6,
    timeout: float = 30.0,
) -> Gallery:
    """Open the gallery at `root`.

    Parameters
    ----------
    root
        ``s3://bucket/prefix`` or a folder with the same layout below it.
    endpoint
        URL of an S3 server other than Amazon's.
    region
        Amazon region of the bucket; used without `endpoint` only.
    workers
        Number of connections kept.
    attempts
        How often one request is made before it counts as failed.
    timeout
        Seconds without progress after which a request is given up and made again.

    Raises
    ------
    UserError
        If `root` is neither.
    """
    if root.startswith("s3://"):
        from coda.s3 import S3Gallery

        return S3Gallery(root, endpoint, region, workers, attempts, timeout)
    if "://" in root:
        raise UserError(f"gallery.root is {root}; it must be s3://bucket/prefix or a local folder.")
    return LocalGallery(root)


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
            "mend it in its table, or leave it out."
        )
    return key


def checked_prefix(prefix: str) -> str:
    """Give a folder's prefix with its closing slash ("" for the root), refused like a key."""
    prefix = prefix.removesuffix("/")
    return checked_key(prefix) + "/" if prefix else ""


class LocalGallery(Gallery):
    """A folder with the layout of the gallery, for example a cluster's mirror."""

    def __init__(self, root: str):
        self.root = root
        self.folder = Path(root).expanduser().resolve()
        if not self.folder.is_dir():
            raise UserError(
                f"gallery.root is {root}, which is not a folder; create it or name s3://bucket/prefix."
            )

    def read(self, key: str) -> bytes:
        """See `Gallery.read`."""
        try:
            return (self.folder / checked_key(key)).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingObject(f"{key} does not exist in {self.root}") from None
        except OSError as error:
            raise BrokenObject(f"{key}: {error.strerror}") from error

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Gallery.entries`."""
        prefix = checked_prefix(prefix)
        for name, is_folder, size in scan(self.folder / prefix):
            if is_folder:
                yield from self.entries(prefix + name)
            else:
                yield Entry(prefix + name, size, None)

    def folders(self, prefix: str) -> list[str]:
        """See `Gallery.folders`."""
        prefix = checked_prefix(prefix)
        return [
            prefix + name.removesuffix("/")
            for name, is_folder, _ in scan(self.folder / prefix)
            if is_folder
        ]

    def fetch(self, key: str, path: Path) -> Fetched:
        """Link to the file instead of copying it; see `Gallery.fetch`.

        A symbolic link costs no disk, works across file systems (hard links do not) and can be
        deleted with the temporary folder without touching the gallery. The images are only read,
        so nothing can be written through it. A folder offers no checksum to compare with: reading
        every byte twice would prove nothing that the decoding of the image does not.
        """
        start = time.monotonic()
        source = self.folder / checked_key(key)
        try:
            size = source.stat().st_size
            if not source.is_file():
                raise MissingObject(f"{key} is not a file")
            with open(source, "rb") as file:
                file.read(1)
        except MissingObject:
            raise
        except (FileNotFoundError, NotADirectoryError):
            raise MissingObject("no such file") from None
        except OSError as error:  # of this one file; what `path` meets concerns them all
            raise BrokenObject(f"it cannot be read: {error.strerror}") from error
        os.symlink(source, path)
        return Fetched(size, None, None, 1, time.monotonic() - start)


def scan(folder: Path) -> list[tuple[str, bool, int]]:
    """Give name, whether a folder, and size of what is in `folder`, in the order in which S3 lists.

    Names of folders end with a slash, which is what puts ``a-b`` before ``a/b``. What cannot be looked
    at, such as a link to nothing, is passed over with a word.

    Raises
    ------
    BrokenObject
        If the folder is there and cannot be listed.
    """
    try:
        with os.scandir(folder) as items:
            entries = list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BrokenObject(f"{folder} cannot be listed: {error.strerror}") from error
    found = []
    for item in entries:
        try:
            size = item.stat().st_size
            is_folder = item.is_dir()
        except OSError as error:
            tell(f"{item.path} is passed over: {error.strerror}")
        else:
            found.append((item.name + "/", True, 0) if is_folder else (item.name, False, size))
    return sorted(found, key=lambda row: row[0].encode())
