"""Run Snakemake once at a time in this folder, and continue where a killed run stopped.

    python tools/run_alone.py snakemake --cores 2 ...

Snakemake locks its folder with a file that remains after ``kill -9`` and must then be removed with ``--unlock``.
This script takes a lock of the operating system, which is released when the processes that hold it end. While it
holds that lock, no other run is active, so it can remove Snakemake's file safely.

Slurm jobs keep running when Snakemake is killed; Snakemake does not know them afterwards and would submit them again.
This script waits for them first. Snakemake then uses the outputs of completed jobs and repeats the others.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

PATIENCE = 10.0  # seconds
SLURM_LOGS = Path(".snakemake/slurm_logs")  # exists once jobs were submitted to Slurm


def taken(lock: TextIO, seconds: float) -> bool:
    """Try to take the lock for some seconds, because a killed run takes a moment to exit."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)


def jobs_in_flight() -> list[str]:
    """List the Slurm jobs that an earlier run in this folder left in the queue.

    Raises
    ------
    CalledProcessError
        If Slurm does not respond.
    """
    if not SLURM_LOGS.exists() or not shutil.which("squeue"):
        return []
    # The Slurm plugin of Snakemake submits from this folder and writes the rule into the comment of a job.
    query = ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"]
    listed = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [line.split("|", 2) for line in listed.splitlines()]
    return [
        job
        for job, folder, comment in rows
        if folder == str(Path.cwd()) and comment.startswith(("rule_", "group_"))
    ]


def await_jobs(pause: float = 5.0) -> None:
    """Wait until the jobs submitted by an earlier run have ended."""
    told = False
    while jobs := jobs_in_flight():
        if not told:
            print(
                f"An earlier run left {len(jobs)} job(s) in Slurm; waiting for them, so that none runs twice. "
                f"To end them instead, elsewhere: scancel {' '.join(jobs)}",
                file=sys.stderr,
                flush=True,
            )
            told = True
        time.sleep(pause)


def unlocking(command: list[str]) -> list[str]:
    """Give the command that removes Snakemake's file; behind ``--`` options would be targets."""
    end = command.index("--") if "--" in command else len(command)
    return [*command[:end], "--unlock", "--quiet", *command[end:]]


def main(command: list[str]) -> int:
    """Run `command` while holding the lock; return its exit status."""
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    # Through a link, another file would be opened for writing.
    descriptor = os.open(folder / "alone.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "w") as lock:
        if not taken(lock, PATIENCE):
            print("Another run is at work in this folder; wait for it, or end it.", file=sys.stderr)
            return 1
        try:
            await_jobs()
        except subprocess.CalledProcessError:
            print(
                "Slurm does not say which jobs of an earlier run are left; try again later.",
                file=sys.stderr,
            )
            return 1
        if any(folder.glob("locks/*")):
            print("An earlier run was killed; going on from what it completed.", file=sys.stderr)
            subprocess.run(unlocking(command), check=True)
        # Snakemake inherits the lock, so it is held as long as Snakemake runs, even if this process is killed.
        return subprocess.run(command, pass_fds=[lock.fileno()], check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
