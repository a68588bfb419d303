"""Where and how networks compute: device, precision, compilation, and several processes as one."""

import ctypes
import hashlib
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from coda.errors import UserError
from coda.provenance import device_name
from coda.training.gpu_lock import claim_gpus

PRECISIONS = ("bf16", "fp32")


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
    automatic : bool
        Whether the precision was chosen by what the device can do.
    graph_updates : bool
        Whether a DINO step ends with a CUDA graph, see `coda.training.graphed_update`. Not yet run on a GPU, so no
        job has it on; ``benchmarks/gpu.py`` checks it and measures what it gains.
    views_ahead : bool
        Whether the views of the next step are made meanwhile, see `coda.training.views_ahead`. As `graph_updates`.
    """

    device: torch.device
    precision: str
    compile: bool = False
    rank: int = 0
    ranks: int = 1
    checkpoint_activations: bool = False
    automatic: bool = False
    graph_updates: bool = False
    views_ahead: bool = False

    def describe(self) -> str:
        """Say what computes, and how precisely."""
        return f"{device_name(self.device)}, {self.precision}{' (auto)' * self.automatic}"

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
        ``"bf16"``, ``"fp32"``, or ``"auto"`` for bf16 where the device has it in hardware, else fp32.
    compile : bool
        Whether networks are compiled; on GPUs only.
    checkpoint_activations : bool
        Whether a DINO student computes activations again instead of keeping them.
    devices : tuple of int
        The GPUs taken, once `claim` has taken them.
    nodes : int
        Nodes with so many GPUs each that train together.
    launcher : str or None
        Command that starts a program on each node.
    """

    gpus: int = 0
    threads: int = 1
    precision: str = "auto"
    compile: bool = True
    checkpoint_activations: bool = False
    devices: tuple[int, ...] = ()
    nodes: int = 1
    launcher: str | None = None

    @classmethod
    def given(cls, gpus: int, threads: int, options: dict[str, Any]) -> "Machine":
        """Make it from what a job was given and the config's section ``compute``."""
        names = ("precision", "compile", "checkpoint_activations")
        return cls(gpus, threads, **{name: options[name] for name in names})

    def spread(self, nodes: int, launcher: str | None) -> "Machine":
        """Split the GPUs over nodes, on each of which `launcher` starts programs."""
        return replace(self, gpus=self.gpus // nodes, nodes=nodes, launcher=launcher)

    def claim(self) -> "Machine":
        """Take GPUs that no other job of this workflow uses, waiting for them if need be."""
        return replace(self, devices=claim_gpus(self.gpus)) if self.gpus else self

    def compute(self, rank: int = 0, ranks: int = 1) -> Compute:
        """Choose the device and the precision of a rank among those of all nodes, and the threads of a CPU job."""
        if self.gpus:
            device = torch.device("cuda", self.devices[rank % len(self.devices)])
            torch.cuda.set_device(device)
            torch.set_float32_matmul_precision("high")
        else:
            device = torch.device("cpu")
            torch.set_num_threads(self.threads)
            keep_freed_memory()
        automatic, native = self.precision == "auto", has_bf16(device)
        if self.precision == "bf16" and not native and rank == 0:
            print(
                f"compute.precision is bf16, but {device_name(device)} only emulates it: a matrix product takes "
                f"{cost_of_bf16(device):.2g} times as long as in fp32; set compute.precision to auto.",
                flush=True,
            )
        return Compute(
            device,
            ("bf16" if native else "fp32") if automatic else self.precision,
            compile=self.compile and device.type != "cpu",
            rank=rank,
            ranks=ranks,
            checkpoint_activations=self.checkpoint_activations,
            automatic=automatic,
        )


def has_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies matrices of bfloat16 in hardware.

    Among x86 processors those with AVX512_BF16 or AMX do. Others emulate it, ten times as slow as float32 or
    worse. The variables ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY, which make a processor behave like an
    older one, count.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    able = torch.cpu.get_capabilities()
    if able["architecture"] != "x86_64":
        return True  # oneDNN has asked the processor
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return (
        any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
        and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
        and any(name in allowed for name in ("DEFAULT", "ALL", "BF16", "FP16", "AMX", "AVX10"))
    )


def cost_of_bf16(device: torch.device) -> float:
    """Measure how many times as long as in float32 a matrix product takes in bfloat16, here and now."""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        one, two = (
            torch.ones(shape, dtype=kind, device=device) for shape in ((2048, 128), (128, 512))
        )
        laps = []
        for _ in range(3):  # the first one prepares
            begun = time.perf_counter()
            float((one @ two)[0, 0])  # waits for a GPU
            laps.append(time.perf_counter() - begun)
        seconds[kind] = min(laps[1:])
    return seconds[torch.bfloat16] / seconds[torch.float32]


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
