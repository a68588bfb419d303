"""What a job was given to compute with."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from coda.compute import Compute, keep_freed_memory
from coda.devices import claim_gpus


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
