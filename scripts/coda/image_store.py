"""The folder of the plates' images: its names, its room, its disk."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coda.errors import UserError


def beside(folder: str | Path, kind: str) -> Path:
    """Name what lies beside a plate's images: ``partial``, those on their way, or ``lock``."""
    folder = Path(folder)
    return folder.with_name(f"{folder.name}.{kind}")


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
