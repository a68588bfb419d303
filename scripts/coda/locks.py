"""One process at a time: a lock on a file, which the operating system frees however a process ends."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from coda.errors import UserError


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
        If it still has the lock then.
    """
    end, told = time.monotonic() + patience, False
    while (lock := _lock(path, does)) is None:
        if not told:
            print(f"{_holder(path)} {does}; waiting for it.", flush=True)
            told = True
        if time.monotonic() > end:
            raise UserError(
                f"{_holder(path)} {does} too; wait until it is done or end it, then start again."
            )
        time.sleep(0.1)
    with lock:
        try:
            yield
        finally:
            if _is_at(lock, path):
                path.unlink()


def _lock(path: Path, does: str) -> TextIO | None:
    """Take the lock, or give None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(BlockingIOError, FileNotFoundError), ExitStack() as stack:
        lock = stack.enter_context(open(path, "a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:  # some cluster file systems have no locks
            print(
                f"{path} cannot be locked ({error}); see to it that one job alone {does}.",
                flush=True,
            )
        # Whoever had it may have removed the file since it was opened.
        if _is_at(lock, path):
            lock.truncate(0)
            lock.write(f"Process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            stack.pop_all()
            return lock
    return None


def _is_at(lock: TextIO, path: Path) -> bool:
    """Tell whether an open file is the one that has the name now."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text() or "Another process"
    return "Another process"
