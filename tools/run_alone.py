"""Run Snakemake as the only one in this folder, and pick up where a killed run left off.

    python tools/run_alone.py snakemake --cores 2 ...

Snakemake locks its folder with a file that outlives a kill -9 and then asks for ``--unlock`` by hand.
Here the lock is one of the operating system's, which ends with the processes that hold it; whoever has
it may clear Snakemake's file safely.
"""

import fcntl
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

PATIENCE = 10.0  # seconds


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


def main(command: list[str]) -> int:
    """Run `command` under the lock and give its exit status."""
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    with open(folder / "alone.lock", "w") as lock:
        if not taken(lock, PATIENCE):
            print("Another run is at work in this folder; wait for it, or end it.", file=sys.stderr)
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
