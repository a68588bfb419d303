"""The disk that plates' images take: names of their folders, and limits."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coda.errors import UserError
from coda.gallery.base import GalleryDown
from coda.logs import some


def beside(folder: str | Path, kind: str) -> Path:
    """Name the folder of a plate's unfinished download (kind ``partial``), or its lock file (``lock``)."""
    folder = Path(folder)
    return folder.with_name(f"{folder.name}.{kind}")


INTERRUPTED = "interrupted"  # lies with the images of a plate whose gallery went down


def check_room(folder: Path, most: int) -> None:
    """Refuse to download a plate if `most` others have images on the disk already.

    The scheduler counts running jobs. It does not count what failed jobs leave
    on the disk, and an error common to all plates would fill it. A plate whose download is resumed is
    not refused, and in a run without failures there are never more than ``most - 1`` others. Plates that a gallery
    that went down left (`marked_if_down`) do not count: they would keep the others from it when it is back.

    Parameters
    ----------
    folder
        Where the images of the plate go: ``<images>/<source>/<plate>``.
    most
        Plates that may have images on the disk at once.

    Raises
    ------
    UserError
        If they do.
    """
    if beside(folder, "partial").exists():
        return
    places = [
        place
        for place in folder.parent.parent.glob("*/*")
        if place.is_dir() and not (place / INTERRUPTED).exists()
    ]
    others = {(place.parent.name, place.name.removesuffix(".partial")) for place in places}
    others -= {(folder.parent.name, folder.name)}
    if len(others) >= most:
        named = some((f"{source} {plate}" for source, plate in others), most)
        raise UserError(
            f"{folder.parent.name} {folder.name} is not fetched, since {len(others)} other plates have images in "
            f"{folder.parent.parent} and gallery.plates_in_flight is {most}: {named}; their jobs failed, so correct "
            "what their logs name, or leave them out (exclude_plates) and delete their folders there, and start again."
        )


@contextmanager
def marked_if_down(partial: Path) -> Iterator[None]:
    """Mark an unfinished download as one that ends because the gallery is down."""
    (partial / INTERRUPTED).unlink(missing_ok=True)
    try:
        yield
    except GalleryDown:
        (partial / INTERRUPTED).touch()
        raise


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
