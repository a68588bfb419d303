"""GPUs that several jobs on one machine share out among themselves."""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import TextIO

import torch

from coda.errors import UserError

# Held open until the process ends: the operating system frees a lock then, whatever ended it.
_held: dict[Path, TextIO] = {}


def claim_gpus(count: int) -> tuple[int, ...]:
    """Take `count` GPUs for this process that no other job of this workflow uses.

    A workstation with several GPUs runs several jobs at once, and nothing but this keeps them from
    all taking the first one. Under a scheduler that hands out GPUs, the visible ones are the job's
    already and are free.

    Returns
    -------
    tuple of int
        Their numbers among the GPUs that PyTorch sees.

    Raises
    ------
    UserError
        If fewer than `count` GPUs are visible at all.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen < count:
        raise UserError(
            f"The job was given {count} GPU(s) (resource gpu), but PyTorch {torch.__version__} sees {seen}; "
            "use profiles/cpu on a machine without a GPU, or check the driver and CUDA_VISIBLE_DEVICES."
        )
    folder = Path(tempfile.gettempdir()) / f"coda_gpus_{os.getuid()}"
    names = identities(seen)
    return tuple(names.index(name) for name in claim(names, count, folder))


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
        Where the lock files lie, one a device.
    pause
        Seconds between looks.

    Returns
    -------
    list of str
        The devices taken, for as long as this process lives; those it took before are its own and come first.
    """
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name.replace('/', '_')}.lock" for name in names}
    told = False
    while True:
        taken = {}
        for name in sorted(names, key=lambda name: paths[name] not in _held):
            lock = _held.get(paths[name]) or open(paths[name], "w")  # noqa: SIM115
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            taken[name] = lock
            if len(taken) == count:
                _held.update({paths[name]: lock for name, lock in taken.items()})
                return list(taken)
        # All or none: two jobs that each hold half of what they need would wait for ever.
        for name, lock in taken.items():
            if paths[name] not in _held:
                lock.close()
        if not told:
            print(f"All GPUs ({', '.join(names)}) are at work; waiting for {count}.", flush=True)
            told = True
        time.sleep(pause)
