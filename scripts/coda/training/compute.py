"""Where and how networks compute: device, precision, compilation, and several processes as one."""

import ctypes
import hashlib
import json
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from coda.errors import UserError
from coda.training.gpu_lock import claim_gpus


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


@dataclass(frozen=True)
class Machine:
    """What a job was given to compute with.

    Attributes
    ----------
    gpus, threads : int
        GPUs (0 computes on the CPU) and CPU threads.
    precision : str
        ``"bf16"`` or ``"fp32"``.
    compile : bool
        Whether networks are compiled; on GPUs only.
    checkpoint_activations : bool
        Whether a DINO student computes activations again instead of keeping them.
    devices : tuple of int
        The GPUs taken, once `claim` has taken them.
    """

    gpus: int = 0
    threads: int = 1
    precision: str = "bf16"
    compile: bool = True
    checkpoint_activations: bool = False
    devices: tuple[int, ...] = ()

    @classmethod
    def given(cls, gpus: int, threads: int, options: dict[str, Any]) -> "Machine":
        """Make it from what a job was given and the config's section ``compute``."""
        names = ("precision", "compile", "checkpoint_activations")
        return cls(gpus, threads, **{name: options[name] for name in names})

    def claim(self) -> "Machine":
        """Take GPUs that no other job of this workflow uses, waiting for them if need be."""
        return replace(self, devices=claim_gpus(self.gpus)) if self.gpus else self

    def compute(self, rank: int = 0, ranks: int = 1) -> Compute:
        """Choose the device of a rank, and the number of threads of a CPU job."""
        common = dict(precision=self.precision, rank=rank, ranks=ranks)
        common |= dict(checkpoint_activations=self.checkpoint_activations)
        if not self.gpus:
            torch.set_num_threads(self.threads)
            keep_freed_memory()
            return Compute(torch.device("cpu"), compile=False, **common)
        device = torch.device("cuda", self.devices[rank])
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
        return Compute(device, compile=self.compile, **common)


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
