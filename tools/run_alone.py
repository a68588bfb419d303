"""Run Snakemake as the only one in this folder, and pick up where a killed run left off.

    python tools/run_alone.py snakemake --cores 2 ...

Snakemake locks its folder with a file that outlives a kill -9 and then asks for ``--unlock`` by hand.
Here the lock is one of the operating system's, which ends with the processes that hold it; whoever has
it may clear Snakemake's file safely.

Jobs on Slurm outlive a killed Snakemake, which forgets them and would submit them a second time. So they are
waited for: what they complete counts, and what they do not is made again.
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
SLURM_LOGS = Path(".snakemake/slurm_logs")  # exists once this folder's jobs went to Slurm


def taken(lock: TextIO, seconds: float) -> bool:
    """Try to take the lock for some seconds: a killed run needs a moment to be gone."""
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
        If Slurm does not answer: then nobody knows.
    """
    if not SLURM_LOGS.exists() or not shutil.which("squeue"):
        return []
    # Snakemake's plugin for Slurm submits from its folder and puts the rule into the comment.
    query = ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"]
    listed = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [line.split("|", 2) for line in listed.splitlines()]
    return [
        job
        for job, folder, comment in rows
        if folder == str(Path.cwd()) and comment.startswith(("rule_", "group_"))
    ]


def await_jobs(pause: float = 5.0) -> None:
    """Wait until the jobs that an earlier run submitted are gone."""
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


def main(command: list[str]) -> int:
    """Run `command` under the lock and give its exit status."""
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
            subprocess.run([*command, "--unlock", "--quiet"], check=True)
        # Inherited, so that the lock stays as long as Snakemake lives, even if this process does not.
        return subprocess.run(command, pass_fds=[lock.fileno()], check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
