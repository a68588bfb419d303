"""Locks on GPUs, so that jobs on one machine use different ones."""

import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from coda.errors import UserError

# Held until the process ends: the operating system frees a lock then, whatever ended it.
_held: dict[Path, FileLock] = {}


def claim_gpus(count: int) -> tuple[int, ...]:
    """Reserve `count` GPUs for this process that no other job of this workflow uses.

    On a workstation several jobs run at once, and without locks all of them would take the first
    GPU. Under a scheduler that assigns GPUs, the visible ones belong to the job and are free.

    Returns
    -------
    tuple of int
        Their numbers among the GPUs that PyTorch sees.

    Raises
    ------
    UserError
        If fewer than `count` GPUs are visible at all, or a lock file cannot be used.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen < count and torch.version.cuda is None:
        raise UserError(
            f"The job was given {count} GPU(s) (resource gpu), but this is the CPU build of PyTorch: install the other "
            "with rm -r .venv && make setup TORCH=cuda, or use profiles/cpu."
        )
    if seen < count:
        raise UserError(
            f"The job was given {count} GPU(s) (resource gpu), but PyTorch {torch.__version__} sees {seen}; "
            "use profiles/cpu on a machine without a GPU, or check the driver and CUDA_VISIBLE_DEVICES."
        )
    names = identities(seen)
    return tuple(names.index(name) for name in claim(names, count, lock_folder()))


def lock_folder() -> Path:
    """Make the folder of this user's lock files, below the system's for temporary files.

    Jobs of one machine must all find the same one. ``XDG_RUNTIME_DIR`` would not do: a desktop or SSH
    session has it, a job of cron or of a scheduler has not.

    Raises
    ------
    UserError
        If something else has its name: a link, or the folder of another user.
    """
    folder = Path(tempfile.gettempdir()) / f"coda_gpus_{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(
            f"{folder}, where jobs note which GPU is taken, is not a folder of yours; "
            "remove it, or set TMPDIR to a folder of your own."
        )
    folder.chmod(0o700)
    return folder


def identities(seen: int) -> list[str]:
    """Name the first `seen` visible GPUs as the whole machine knows them.

    Their numbers would not do: a scheduler that shows each job its own GPUs only, shows two jobs
    different ones as number 0, and one would wait for the other.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if visible[0].startswith("MIG-"):  # parts of one GPU, which share its identity
        return visible[:seen]
    return [str(torch.cuda.get_device_properties(number).uuid) for number in range(seen)]


def claim(names: list[str], count: int, folder: Path, pause: float = 1.0) -> list[str]:
    """Lock `count` of the devices `names`, waiting until so many are free.

    Parameters
    ----------
    names
        Devices as in ``CUDA_VISIBLE_DEVICES``.
    count
        How many to take, at most ``len(names)``.
    folder
        Of the lock files, one for each device.
    pause
        Seconds between looks.

    Returns
    -------
    list of str
        The devices taken, for as long as this process lives; those it took before are its own and come first.
    """
    paths = {name: folder / f"{name.replace('/', '_')}.lock" for name in names}
    own = [name for name in names if paths[name] in _held][:count]
    told = False
    while True:
        taken = {}
        for name in names:
            if len(own) + len(taken) == count:
                break
            if name not in own:
                # Of all threads: a lock of one thread alone goes when that thread ends.
                lock = FileLock(paths[name], blocking=False, thread_local=False)
                try:
                    lock.acquire()
                except Timeout:
                    continue
                except OSError as error:  # a link, which is not followed, or of another user
                    raise UserError(
                        f"The lock file {paths[name]} cannot be used ({error.strerror}); remove it and start again."
                    ) from error
                taken[name] = lock
        if len(own) + len(taken) == count:
            _held.update({paths[name]: lock for name, lock in taken.items()})
            return [*own, *taken]
        # All or none: two jobs that each hold half of what they need would wait forever.
        for lock in taken.values():
            lock.release()
        if not told:
            print(f"All GPUs ({', '.join(names)}) are in use; waiting for {count}.", flush=True)
            told = True
        time.sleep(pause)
