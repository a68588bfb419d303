"""Where and how networks compute: device, precision, compilation, and several processes as one."""

import ctypes
import hashlib
import json
import os
import re
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from coda.errors import UserError
from coda.reporting import Tee, copied


@dataclass(frozen=True)
class Compute:
    """How to compute, decided once a job.

    Attributes
    ----------
    device : torch.device
        A GPU or the CPU.
    precision : str
        ``"bf16"`` for bfloat16 autocast, ``"fp32"`` for float32 throughout.
    compile : bool
        Whether networks and views are compiled; only ever on a GPU.
    rank, ranks : int
        This process and the number of processes that train together.
    checkpoint_activations : bool
        Whether a DINO student computes activations again instead of keeping them.
    """

    device: torch.device
    precision: str = "bf16"
    compile: bool = False
    rank: int = 0
    ranks: int = 1
    checkpoint_activations: bool = False

    def autocast(self) -> torch.autocast:
        """Context in which networks run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def compiled(self, function: Callable, graphs: bool = False) -> Callable:
        """Give `function`, compiled where this job compiles.

        With `graphs`, its kernels are launched as CUDA graphs: a small transformer's step is over
        before the CPU has launched it kernel by kernel (7 to 14 % faster, measured). What it
        returns is overwritten by its next call. Several GPUs and graphs do not go together.
        """
        if not self.compile:
            return function
        mode = "reduce-overhead" if graphs and self.ranks == 1 else None
        return torch.compile(function, dynamic=False, mode=mode)


def keep_freed_memory() -> None:
    """Let the C library keep up to 1 GiB that tensors have freed, where it can (glibc).

    By default it gives large pieces back to the system and asks for them anew with each tensor, which then
    clears every page: 5 to 17 % of a small transformer's step on a CPU (measured). Nothing else changes.
    """
    trim_threshold, mmap_threshold = -1, -3  # numbers of malloc.h
    with suppress(AttributeError, OSError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(trim_threshold, 2**30)
        allocator.mallopt(mmap_threshold, 2**30)


def seed_everything(*numbers: int) -> int:
    """Seed PyTorch from a tuple of numbers, for example (seed, step, rank), and give the seed."""
    seed = derive_seed(*numbers)
    torch.manual_seed(seed)
    return seed


def derive_seed(*numbers: int) -> int:
    """Mix numbers into one 63-bit seed; neighbouring tuples give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def fingerprint(*values: Any) -> str:
    """Hash JSON values, to tell whether saved work belongs to these settings and inputs."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def peak_memory(device: torch.device) -> float:
    """Most memory this process has used so far, in GiB: of the GPU if `device` is one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


@contextmanager
def explain_memory(device: torch.device, advice: str) -> Iterator[None]:
    """Turn a full memory into a sentence that says what was needed, where, and what lowers it.

    Parameters
    ----------
    device
        Where the block computes.
    advice
        What to do, with the config's keys: ``"lower classify.batch_size"``.

    Raises
    ------
    UserError
        If the memory of the GPU, or of the machine, did not do.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
        need = peak_memory(device) + _asked_gib(str(error))
        place = f"The memory of {torch.cuda.get_device_name(device)} (cuda:{device.index})"
        raise UserError(
            f"{place} is too small: at least {need:.2f} GiB were needed, where {total:.2f} GiB are built in and "
            f"{free:.2f} GiB were still free; {advice}."
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        need = peak_memory(device) + _asked_gib(str(error))
        raise UserError(
            f"The machine's memory is too small: at least {need:.2f} GiB were needed; {advice}."
        ) from error


def _asked_gib(message: str) -> float:
    """GiB that an allocation asked for in vain, as PyTorch's message says; 0 if it does not."""
    units = {"bytes": 2**-30, "KiB": 2**-20, "MiB": 2**-10, "GiB": 1.0}
    found = re.search(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", message, re.IGNORECASE)
    return float(found[1]) * units[found[2]] if found else 0.0
