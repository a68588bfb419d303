"""Jobs that outlive the Snakemake that started them, as after ``kill -9``: nobody takes their outputs.

The next Snakemake removes outputs of jobs that it does not know to be complete. So what took long stays where a job
keeps it while it is at work, and the next job of its kind ends at once.
"""

import os
from contextlib import suppress
from pathlib import Path

RUN = "CODA_RUN"  # in the environment of jobs: the process of their Snakemake


def orphaned() -> bool:
    """Whether the Snakemake that started this job has ended.

    False where that is not known: on another machine than Snakemake's, or without ``/proc``.
    """
    run = os.environ.get(RUN)
    return run in _FIRST and run not in _ancestors()


def _ancestors() -> set[str]:
    """Give the processes that this one descends from; those whose parent has ended descend from the first of all."""
    found, process = set(), str(os.getppid())
    with suppress(OSError, IndexError):
        while process != "0":
            found.add(process)
            # The name of a program, in brackets, can hold anything.
            process = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
    return found


_FIRST = _ancestors()
