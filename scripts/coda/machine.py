"""What a job was given to compute with."""

from dataclasses import dataclass

import torch

from coda.compute import Compute, choose_compute
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
    """

    gpus: int = 0
    threads: int = 1
    precision: str = "bf16"
    compile: bool = True

    def claim(self) -> "Machine":
        """Take the GPUs, before anything touches them."""
        if self.gpus:
            claim_gpus(self.gpus)
        return self

    def compute(self, rank: int = 0, ranks: int = 1) -> Compute:
        """Choose the device, and the number of threads of a CPU job."""
        if not self.gpus:
            torch.set_num_threads(self.threads)
        return choose_compute(self.gpus, self.precision, self.compile, rank, ranks)
