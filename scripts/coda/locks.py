"""One process at a time: a lock on a file, which the operating system frees however a process ends."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from coda.errors import UserError

# What a file system answers that has no locks, as some of clusters and network drives.
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


@contextmanager
def alone(path: Path, does: str, patience: float) -> Iterator[None]:
    """Keep other processes out while the block runs.

    A lock file that a killed process left behind is no hindrance. A process that still has the lock
    is waited for.

    Parameters
    ----------
    path
        The lock file; it goes with the block, or earlier with its folder.
    does
        What the block does and where, as a verb in the present tense, for messages.
    patience
        Seconds to wait for another process.

    Raises
    ------
    UserError
        If it still has the lock then, or the lock file is a link.
    """
    end, told = time.monotonic() + patience, False
    while (lock := _acquire(path, does)) is None:
        if not told:
            print(f"{_holder(path)} {does}; waiting for it.", flush=True)
            told = True
        if time.monotonic() > end:
            raise UserError(
                f"{_holder(path)} {does} too; wait until it is done or end it, then start again."
            )
        time.sleep(0.1)
    own = _inode(path)
    with lock:
        try:
            yield
        finally:
            # If the folder was removed, another process may have made a lock file of the same name.
            if _inode(path) == own:
                path.unlink(missing_ok=True)


def keep(path: Path, does: str) -> None:
    """Keep other processes out until this one ends.

    Parameters
    ----------
    path
        The lock file, which stays.
    does
        What this process does, as for `alone`.

    Raises
    ------
    UserError
        If another process has the lock, or the lock file is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquire(path, does)
    if lock is None:
        raise UserError(
            f"{_holder(path)} {does} too; wait until it is done, or give this run results of its own."
        )
    _kept.append(lock)


# Held until the process ends: a lock goes with the object that has it.
_kept: list[AbstractContextManager] = []


def _acquire(path: Path, does: str) -> AbstractContextManager | None:
    """Take the lock, or give None if another process has it."""
    # Without locks filelock could fall back on the file's existence, but then a killed process would
    # keep all others out.
    lock = FileLock(path, blocking=False, fallback_to_soft=False, on_acquired=_sign)
    try:
        return lock.acquire()
    except (Timeout, FileNotFoundError):  # the latter if the folder was removed meanwhile
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(
                f"The lock file {path} is a link, which is not followed; remove it and start again."
            ) from None
        if error.errno not in WITHOUT_LOCKS:
            raise
        print(
            f"{path} cannot be locked ({error.strerror}); make sure that only one job {does}.",
            flush=True,
        )
        return nullcontext()


def _sign(descriptor: int) -> None:
    """Write into the lock file who has it."""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"Process {os.getpid()} on {socket.gethostname()}".encode())


def _inode(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text() or "Another process"
    return "Another process"
