"""Where and how networks compute: device, precision, compilation, and several processes as one."""

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from coda.errors import UserError


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
    """

    device: torch.device
    precision: str = "bf16"
    compile: bool = False
    rank: int = 0
    ranks: int = 1

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


def choose_compute(
    gpus: int, precision: str, compile_networks: bool, rank: int = 0, ranks: int = 1
) -> Compute:
    """Choose the device: a GPU where the job was given one, else the CPU.

    Raises
    ------
    UserError
        If GPUs were promised to the job and PyTorch does not see that many.
    """
    if not gpus:
        return Compute(torch.device("cpu"), precision, False, rank, ranks)
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen < gpus:
        raise UserError(
            f"The job was given {gpus} GPU(s) (resource gpu), but PyTorch {torch.__version__} sees {seen}; "
            "use profiles/cpu on a machine without a GPU, or check the driver and CUDA_VISIBLE_DEVICES."
        )
    torch.set_float32_matmul_precision("high")
    return Compute(torch.device("cuda", rank), precision, compile_networks, rank, ranks)


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
    """Run ``function(rank, ranks, *arguments)`` once, or once a GPU in processes that train together."""
    if gpus <= 1:
        function(0, 1, *arguments)
    else:
        run_ranks(function, gpus, *arguments)


def run_ranks(function: Callable, ranks: int, *arguments: Any) -> None:
    """Run `function` in `ranks` processes joined by torch.distributed on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_join, (ranks, port, function, arguments), nprocs=ranks)


def _join(rank: int, ranks: int, port: int, function: Callable, arguments: tuple) -> None:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = str(port)
    dist.init_process_group(backend, rank=rank, world_size=ranks)
    try:
        function(rank, ranks, *arguments)
    finally:
        dist.destroy_process_group()


@contextmanager
def explain_memory(keys: str):
    """Turn a full GPU into a sentence that says what was needed and which config `keys` lower it."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        used = torch.cuda.max_memory_allocated() / 2**30
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        raise UserError(
            f"The GPU's memory is too small: more than {used:.1f} of {total:.1f} GiB were needed; lower {keys}."
        ) from error


class Stopwatch:
    """Adds up the seconds spent in named parts of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str):
        """Count the time of the block under `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
