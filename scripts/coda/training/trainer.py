"""What every training loop shares: parameter groups, means, alarms, rates, and leaving when asked to."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import nn

from coda.errors import UserError
from coda.training.loader import Loader

# EX_TEMPFAIL of sysexits.h: the work is not done, and trying again will go on from the saved state.
PREEMPTED = 75


def decay_groups(modules: list[nn.Module]) -> list[dict[str, Any]]:
    """Split parameters for AdamW: matrices decay; biases, norms and other vectors do not."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def step_optimizer(
    optimizer: torch.optim.Optimizer, learning_rate: float, weight_decay: float, clip: float
) -> None:
    """Clip the gradient's norm, take one step with the given rates, and forget the gradients."""
    parameters = [
        p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.param_groups[0]["weight_decay"] = weight_decay
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Means:
    """Running means of scalars that stay on the device until they are asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, **scalars: torch.Tensor) -> None:
        """Add one step's scalars."""
        self.count += 1
        for name, scalar in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + scalar.detach()

    def so_far(self) -> dict[str, float]:
        """Give the means since they were last taken, and go on."""
        return {name: float(total) / self.count for name, total in self.sums.items()}

    def take(self) -> dict[str, float]:
        """Give the means since the last call, and start again."""
        means = self.so_far()
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict[str, torch.Tensor]:
        """Give the sums as tensors, for a training state."""
        sums = {f"means.{name}": total.reshape(1) for name, total in self.sums.items()}
        return sums | {"means.count": torch.tensor([self.count])}

    def load(self, tensors: dict[str, torch.Tensor], device: torch.device) -> None:
        """Take the sums back from the tensors of a training state."""
        sums = {
            name.removeprefix("means."): value
            for name, value in tensors.items()
            if name.startswith("means.")
        }
        self.count = int(sums.pop("count"))
        self.sums = {name: value[0].to(device) for name, value in sums.items()}


def check_loss(means: dict[str, float], epoch: int) -> None:
    """Stop a training whose loss in `epoch`, if `means` has it yet, is not a number any more.

    Raises
    ------
    UserError
        If so: whatever is saved from then on is lost too.
    """
    loss = means.get("loss", 0.0)
    if not math.isfinite(loss):
        raise UserError(
            f"The loss became {loss} in epoch {epoch}; lower the learning rate, "
            "or set compute.precision to fp32."
        )


# Within 0.1 % of the largest entropy, or features a thousandth of their usual spread of about 1.
LOSS_SHARE, FEATURE_DEVIATION = 0.999, 1e-3


def check_learning(log: list[dict[str, Any]], prototypes: int, patience: int) -> None:
    """Stop a DINO training that has stopped to learn.

    Collapse shows in two ways: the loss stays at ln(prototypes), since the teacher gives every
    prototype the same probability, or all features become equal. The first epochs often look so. It
    is read from the log, which a state keeps, so a training that was interrupted counts on.

    Parameters
    ----------
    log
        One row an epoch with ``epoch``, ``loss`` and ``feature_deviation``, the last one new.
    prototypes
        Number of prototypes.
    patience
        Epochs in a row that may look collapsed.

    Raises
    ------
    UserError
        On a loss that is not a number, or after `patience` collapsed epochs in a row.
    """
    row, ceiling = log[-1], math.log(prototypes)
    check_loss(row, row["epoch"])
    latest = log[-patience:]
    if len(latest) == patience and all(
        past["loss"] > LOSS_SHARE * ceiling or past["feature_deviation"] < FEATURE_DEVIATION
        for past in latest
    ):
        raise UserError(
            f"The features collapsed: for {patience} epochs the loss was {row['loss']:.4f} (ln of the prototypes is "
            f"{ceiling:.4f}) or the features' deviation {row['feature_deviation']:.2g}; start from pretrained "
            "weights (model.weights), set head.batch_norm to true, make views milder, or wait longer (watch.patience)."
        )


class Stopwatch:
    """Rate of a training and its share of waiting, from one lap to the next.

    It counts the samples it saw, so the first lap of a training that goes on within an epoch is right.
    """

    def __init__(self, loader: Loader):
        self.loader = loader
        self.restart()

    def restart(self) -> None:
        """Begin a lap."""
        self.start, self.samples, self.loader.waited = time.monotonic(), 0, 0.0

    def lap(self) -> dict[str, float]:
        """Give samples a second and the share of time waiting for data since the lap began."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        return {
            "samples_per_second": self.samples / seconds,
            "waiting_share": min(1.0, self.loader.waited / seconds),
        }


class Interruption:
    """Notes SIGTERM, which a cluster sends before it takes a machine back, for the loop to see.

    Processes that train together may get the signal at different steps, or only one of them may, so
    they agree: all leave after the same step, once its state is saved.
    """

    def __init__(self) -> None:
        self.asked = False
        # On the CPU, beside the GPUs' own group: asking must not wait for what a GPU still computes.
        self.group = dist.new_group(backend="gloo") if dist.is_initialized() else None

    def agreed(self) -> bool:
        """Whether any of the processes was asked to stop; all of them must call this."""
        if self.group is None:
            return self.asked
        asked = torch.tensor([int(self.asked)])
        dist.all_reduce(asked, group=self.group)
        return bool(asked)

    @contextmanager
    def watched(self) -> Iterator["Interruption"]:
        """Note the signal instead of dying from it, while the block runs."""

        def note(number: int, frame: object) -> None:
            self.asked = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def leave(self, what: str) -> NoReturn:
        """End the process with the status that means: start me again."""
        if self.group is not None:
            # The first process to end takes the others with it, so none may leave before the state is saved.
            dist.barrier(group=self.group)
        if self.group is None or dist.get_rank() == 0:
            print(
                f"{what}: asked to stop; the state is saved, and the next start goes on from it.",
                flush=True,
            )
        raise SystemExit(PREEMPTED)
