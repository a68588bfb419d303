"""A launcher as schedulers have one, for "nodes" that are all this machine; and programs for it to start.

python two_nodes.py launch [-n COUNT] PROGRAM...   starts copies, and ends all when one fails, as srun does
python two_nodes.py work LOG FOLDER                a script that spreads over two nodes, as those of the workflow do
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = shlex.join([sys.executable, __file__, "launch"])


def launch(words: list[str]) -> int:
    """Start copies, each with its number, pass SIGTERM on, and give the status of the first that fails, or SAYS."""
    count, program = int(words[1]), words[2:]
    # A scheduler's launcher gives its copies the variables of Slurm, whatever this process has of them.
    copies = [
        subprocess.Popen(program, env={**os.environ, "SLURM_PROCID": str(number)})
        for number in range(count)
    ]
    signal.signal(signal.SIGTERM, lambda *_: [copy.terminate() for copy in copies])
    status = 0
    while any(copy.poll() is None for copy in copies):
        status = status or next((copy.returncode for copy in copies if copy.poll()), 0)
        if status:
            time.sleep(1)  # as long as Slurm takes at least
            for copy in copies:
                copy.terminate()
        time.sleep(0.05)
    said = os.environ.get("SAYS")  # as srun may give that of a copy that it ended itself
    return int(said) if said else (status or max(copy.returncode for copy in copies)) % 256


def add_up(rank: int, ranks: int, folder: str) -> None:
    """Add all ranks' numbers up; before, the rank that FAIL names fails, that of DIES dies, and with STOP all stop."""
    import torch
    import torch.distributed as dist
    from coda.errors import UserError

    print(f"rank {rank} of {ranks} is there", flush=True)
    if os.environ.get("FAIL") == str(rank):
        raise UserError("head.batch_norm is at fault.")
    if os.environ.get("DIES") == str(rank):
        os.kill(os.getpid(), signal.SIGKILL)
    if "STOP" in os.environ:
        from coda.training.trainer import Interruption

        Interruption().leave("test")
    total = torch.tensor([float(rank + 1)])
    dist.all_reduce(total)
    (Path(folder) / f"{rank}_of_{ranks}").write_text(str(total.item()))


def work(log: str, folder: str) -> None:
    """Do on two nodes what a script of the workflow does."""
    from coda.logs import reported
    from coda.training.distributed import Node, launch, run_on_nodes

    with reported(log):
        if Node.this() is None:
            print("before", flush=True)
            run_on_nodes(2, LAUNCHER)
            print("after", flush=True)
        else:
            launch(add_up, int(os.environ.get("EACH", 1)), folder)


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        sys.exit(launch(sys.argv[2:]))
    import two_nodes  # what other processes are to find by name

    two_nodes.work(*sys.argv[2:])
