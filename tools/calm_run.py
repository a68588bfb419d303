"""Run Snakemake with all that it and its jobs say in a file, and leave the terminal to one line of progress.

    python tools/calm_run.py results/run.log "Part 1 of 2, the study" snakemake --cores 2 ...

On a terminal the line stays in its place, elsewhere it comes every 20 seconds. If the run fails, the end of the file
follows: which jobs failed, why, and where their logs are.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from coda.progress import duration
from coda.run_progress import TERMINAL, TITLE

MOST = 20  # lines that are shown of a run that failed before its first job


def main(log: str, title: str, *command: str) -> int:
    """Run `command` and give its exit status."""
    path, start = Path(log), time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"{title}: what it says is in {path}, what its jobs say in {path.parent}/logs.", flush=True
    )
    terminal = os.dup(2)
    os.set_inheritable(terminal, True)
    running: list[subprocess.Popen] = []
    signal.signal(signal.SIGTERM, lambda *_: [run.terminate() for run in running] or sys.exit(143))
    with path.open("w") as file:
        # Open files go on to it, among them the lock of tools/run_alone.py.
        run = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, close_fds=False,
            env=os.environ | {TERMINAL: str(terminal), TITLE: title.split(",")[0]},
        )  # fmt: skip
        # An interrupt from the keyboard reaches it too, and it ends its jobs first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        running.append(run)
        status = run.wait()
    if os.isatty(terminal):
        os.write(terminal, b"\r\x1b[K")
    ending = "took" if status == 0 else "failed after"
    print(f"{title}: {ending} {duration(time.monotonic() - start)}.", flush=True)
    if status:
        print(f"{told(path)}\nThe whole of it: {path}", file=sys.stderr)
    return status


def told(path: Path) -> str:
    """Give the end of a file of a run that failed: from where it lists the jobs that did, else a few lines."""
    lines = path.read_text(errors="replace").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Failed: ")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-MOST:])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
