"""Say how many cores a run here may use: those of this process, as far as the memory does.

    python tools/cores.py

A container can grant less time than it shows cores, and less memory than the machine has; both are looked at.
"""

import os
from pathlib import Path

GIB_A_CORE = 2
CGROUP = Path("/sys/fs/cgroup")


def granted(name: str) -> list[str]:
    """Read a limit of the container; ``max`` where there is none."""
    try:
        return (CGROUP / name).read_text().split()
    except OSError:
        return ["max"]


def usable(cores: int, memory: float, cpu_limit: list[str], memory_limit: list[str]) -> int:
    """Say how many of some cores to use.

    Parameters
    ----------
    cores
        Those that this process may run on.
    memory
        The machine's, in bytes.
    cpu_limit
        Microseconds of computing in each period, and the period; or ``max``.
    memory_limit
        Bytes, or ``max``.
    """
    if cpu_limit[0] != "max":
        cores = min(cores, int(cpu_limit[0]) // int(cpu_limit[1]))
    if memory_limit[0] != "max":
        memory = min(memory, int(memory_limit[0]))
    return max(1, min(cores, int(memory / 2**30 / GIB_A_CORE)))


if __name__ == "__main__":
    bytes_here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Not everywhere can a process be bound to some cores.
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(usable(here, bytes_here, granted("cpu.max"), granted("memory.max")))
