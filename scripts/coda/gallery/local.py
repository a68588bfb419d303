"""The gallery as a folder of the same layout, for example a cluster's mirror."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from coda.errors import UserError, raise_shortage
from coda.gallery.base import (
    BrokenObject,
    Entry,
    Fetched,
    Gallery,
    MissingObject,
    checked_key,
    checked_prefix,
)
from coda.logs import tell

# What file systems answer that have no symbolic links.
WITHOUT_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class LocalGallery(Gallery):
    """A folder with the layout of the gallery, for example a cluster's mirror."""

    def __init__(self, root: str):
        self.root = root
        self.folder = Path(root).expanduser().resolve()
        if not self.folder.is_dir():
            raise UserError(
                f"gallery.root is {root}, which is not a folder; create it or name s3://bucket/prefix."
            )

    def read(self, key: str, listed: Entry | None = None) -> bytes:
        """See `Gallery.read`."""
        try:
            return (self.folder / checked_key(key)).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingObject(f"{key} does not exist in {self.root}") from None
        except OSError as error:
            raise_shortage(error)
            raise BrokenObject(f"{key}: {error.strerror}") from error

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Gallery.entries`."""
        yield from self._entries(checked_prefix(prefix), frozenset())

    def _entries(self, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[Entry]:
        """List a folder, but not once more within itself, where a link leads back to it."""
        folder = self.folder / prefix
        with suppress(OSError):
            found = folder.stat()
            place = found.st_dev, found.st_ino
            if place in above:
                tell(f"{folder} is skipped: it is a link to a folder above it")
                return
            above |= {place}
        for name, is_folder, size in scan(folder):
            if is_folder:
                yield from self._entries(prefix + name, above)
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

    def fetch(self, key: str, path: Path, listed: Entry | None = None) -> Fetched:
        """Link to the file instead of copying it; see `Gallery.fetch`.

        A symbolic link costs no disk, works across file systems (hard links do not) and can be
        deleted with the temporary folder without touching the gallery. The images are only read,
        so nothing can be written through it. File systems without links (SMB, exFAT) get a copy. A
        folder offers no checksum to compare with: reading every byte twice would prove nothing that
        the decoding of the image does not.
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
            raise_shortage(error)
            raise BrokenObject(f"it cannot be read: {error.strerror}") from error
        try:
            os.symlink(source, path)
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            shutil.copyfile(source, path)
        return Fetched(size, None, None, 1, time.monotonic() - start)


def scan(folder: Path) -> list[tuple[str, bool, int]]:
    """Give name, whether a folder, and size of what is in `folder`, in the order in which S3 lists.

    Names of folders end with a slash, which is what puts ``a-b`` before ``a/b``. What cannot be looked
    at, such as a link to nothing, is skipped, and said so on standard error.

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
        raise_shortage(error)
        raise BrokenObject(f"{folder} cannot be listed: {error.strerror}") from error
    found = []
    for item in entries:
        try:
            size = item.stat().st_size
            is_folder = item.is_dir()
        except OSError as error:
            tell(f"{item.path} is skipped: {error.strerror}")
            continue
        try:
            item.name.encode()
        except UnicodeEncodeError:
            tell(f"{os.fsencode(item.path)!r} is skipped: its name is no UTF-8")
        else:
            found.append((item.name + "/", True, 0) if is_folder else (item.name, False, size))
    return sorted(found, key=lambda row: row[0].encode())
