"""Several processes that train as one, on one node or on several, joined by torch.distributed.

On several nodes the scheduler's own launcher runs the job's script once more on each of them (`run_on_nodes`), and
each copy starts the processes of its node. They find each other at an address that the copies are given.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from coda.errors import UserError
from coda.logs import COPY, Tee, copied

# Number of a copy among those that a launcher starts: Slurm's, Open MPI's, and that of MPICH and its kin.
NUMBERS = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")

# EX_TEMPFAIL of sysexits.h: the work is not done, and trying again will go on from the saved state.
PREEMPTED = 75


@dataclass(frozen=True)
class Node:
    """One of the nodes that train together.

    Attributes
    ----------
    number, count : int
        Which one, from 0, and how many there are.
    address : str
        Host and port where the processes of all nodes meet.
    stopped : Path or None
        File on the host of the first process, which makes it once it was asked to stop and the state is saved.
    """

    number: int
    count: int
    address: str
    stopped: Path | None = None

    @classmethod
    def this(cls) -> "Node | None":
        """Say which one this is; None where one node does everything, or where the copies are to be started."""
        if COPY not in os.environ:
            return None
        count, address, stopped = os.environ[COPY].split(" ", 2)
        number = next((os.environ[name] for name in NUMBERS if name in os.environ), None)
        if number is None:
            raise UserError(
                "The program that starts a training on each node (resource mpi of the profile) does not number what it "
                f"starts: none of {', '.join(NUMBERS)} is set; name another, such as srun or mpirun."
            )
        return cls(int(number), int(count), address, Path(stopped))


def run_on_nodes(nodes: int, launcher: str | None) -> None:
    """Run the script of this process once more on each node, and wait for all of them.

    Parameters
    ----------
    nodes
        How many.
    launcher
        Command of the scheduler that starts programs on the nodes of a job, such as ``srun``. It must end all copies
        when one fails.

    Raises
    ------
    UserError
        If there is none, or it cannot be started.
    SystemExit
        With 75 once asked to stop, whatever the launcher made of the copies' statuses: it may give that of one that it
        ended itself, as Slurm's does. Else with the launcher's status, if that is not 0; the copy that failed has said
        why.
    """
    if not launcher:
        raise UserError(
            f"compute.nodes is {nodes}, but the profile names no program that starts one on each node (resource mpi, "
            "such as srun); see docs/cluster.md, or set compute.nodes to 1."
        )
    # The first copy runs here, on the first node of the job.
    address = f"{socket.gethostname()}:{_free_port()}"
    command = [*shlex.split(launcher), "-n", str(nodes), sys.executable, *sys.orig_argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        stopped = Path(folder) / "stopped"
        environment = {**os.environ, COPY: f"{nodes} {address} {stopped}"}
        try:
            copies = subprocess.Popen(command, env=environment)
        except OSError as error:
            raise UserError(
                f"{command[0]}, which the profile names to start a training on {nodes} nodes (resource mpi), cannot be "
                f"run: {error.strerror}."
            ) from error
        with _passed_on(signal.SIGTERM, [copies.pid]):
            status = copies.wait()
        if stopped.exists():
            raise SystemExit(PREEMPTED)
    if status:
        raise SystemExit(status if status > 0 else 128 - status)


def note_stop() -> None:
    """Tell `run_on_nodes` that the state is saved; of the first process, before any may end."""
    node = Node.this()
    if node is not None:
        with suppress(OSError):  # then the launcher's status has to do
            node.stopped.touch()


def launch(function: Callable, gpus: int, *arguments: Any) -> None:
    """Run ``function(rank, ranks, *arguments)`` once, or once for each GPU of each node, training together."""
    if gpus <= 1 and Node.this() is None:
        function(0, 1, *arguments)
    else:
        run_ranks(function, max(1, gpus), *arguments)


def run_ranks(function: Callable, ranks: int, *arguments: Any) -> None:
    """Run `function` in `ranks` processes on this machine, joined by torch.distributed with those of other nodes.

    Raises
    ------
    UserError
        The one that a process raised.
    SystemExit
        With the status of the process that ended first, if that was not 0.
    """
    node = Node.this() or Node(0, 1, f"127.0.0.1:{_free_port()}")
    first, total = node.number * ranks, node.count * ranks
    log = sys.stdout.log.name if isinstance(sys.stdout, Tee) else None
    with tempfile.TemporaryDirectory() as folder:
        fault = Path(folder) / "fault"
        with _without_main():
            processes = mp.spawn(
                _join,
                (first, total, node.address, log, fault, function, arguments),
                nprocs=ranks,
                join=False,
            )
        with _passed_on(signal.SIGTERM, processes.pids()):
            try:
                while not processes.join():
                    pass
            except mp.ProcessExitedException as error:
                if fault.exists():
                    raise UserError(fault.read_text()) from None
                raise SystemExit(error.exit_code) from None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


@contextmanager
def _without_main():
    """Keep new processes from running the main script again: Snakemake's scripts have no guard."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


@contextmanager
def _passed_on(number: int, pids: list[int]):
    """Pass a signal on to other processes while the block runs."""

    def pass_on(number: int, frame: object) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    before = signal.signal(number, pass_on)
    try:
        yield
    finally:
        signal.signal(number, before)


def _join(
    number: int,
    first: int,
    ranks: int,
    address: str,
    log: str | None,
    fault: Path,
    function: Callable,
    arguments: tuple,
) -> None:
    backend, rank = "nccl" if torch.cuda.is_available() else "gloo", first + number
    dist.init_process_group(backend, f"tcp://{address}", rank=rank, world_size=ranks)
    try:
        with copied(log) if log else nullcontext():
            function(rank, ranks, *arguments)
    except UserError as error:
        fault.write_text(str(error))
        # Without ado: an orderly end would wait for the other processes, which wait for this one.
        os._exit(1)
    except SystemExit as left:
        os._exit(left.code)
    dist.destroy_process_group()
