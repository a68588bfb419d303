"""Several processes that train as one, joined by torch.distributed."""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from coda.errors import UserError
from coda.logs import Tee, copied


def launch(function: Callable, gpus: int, *arguments: Any) -> None:
    """Run ``function(rank, ranks, *arguments)`` once, or once for each GPU, training together."""
    if gpus <= 1:
        function(0, 1, *arguments)
    else:
        run_ranks(function, gpus, *arguments)


def run_ranks(function: Callable, ranks: int, *arguments: Any) -> None:
    """Run `function` in `ranks` processes joined by torch.distributed on this machine.

    Raises
    ------
    UserError
        The one that a process raised.
    SystemExit
        With the status of the process that ended first, if that was not 0.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = sys.stdout.log.name if isinstance(sys.stdout, Tee) else None
    with tempfile.TemporaryDirectory() as folder:
        fault = Path(folder) / "fault"
        with _without_main():
            processes = mp.spawn(
                _join, (ranks, port, log, fault, function, arguments), nprocs=ranks, join=False
            )
        with _passed_on(signal.SIGTERM, processes.pids()):
            try:
                while not processes.join():
                    pass
            except mp.ProcessExitedException as error:
                if fault.exists():
                    raise UserError(fault.read_text()) from None
                raise SystemExit(error.exit_code) from None


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
    rank: int,
    ranks: int,
    port: int,
    log: str | None,
    fault: Path,
    function: Callable,
    arguments: tuple,
) -> None:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = str(port)
    dist.init_process_group(backend, rank=rank, world_size=ranks)
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
