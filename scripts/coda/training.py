"""What every training loop shares: parameter groups, the log, alarms, and leaving when asked to."""

import math
import signal
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import nn

from coda.errors import UserError

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

    def take(self) -> dict[str, float]:
        """Give the means since the last call, and start again."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
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


class CollapseAlarm:
    """Stops a DINO training that has stopped to learn.

    Collapse shows in two ways: the loss stays at ln(prototypes), since the teacher gives every
    prototype the same probability, or all features become equal.

    Parameters
    ----------
    prototypes
        Number of prototypes.
    patience
        Epochs in a row that may look collapsed. The first epochs often do.
    """

    # Within 0.1 % of the largest entropy, or features a thousandth of their usual spread of about 1.
    LOSS_SHARE, FEATURE_DEVIATION = 0.999, 1e-3

    def __init__(self, prototypes: int, patience: int):
        self.ceiling, self.patience, self.epochs = math.log(prototypes), patience, 0

    def check(self, epoch: int, loss: float, feature_deviation: float) -> None:
        """Look at an epoch's means.

        Raises
        ------
        UserError
            On a loss that is not a number, or after `patience` collapsed epochs in a row.
        """
        if not math.isfinite(loss):
            raise UserError(
                f"The loss became {loss} in epoch {epoch + 1}; lower the learning rate, "
                "or set compute.precision to fp32."
            )
        collapsed = (
            loss > self.LOSS_SHARE * self.ceiling or feature_deviation < self.FEATURE_DEVIATION
        )
        self.epochs = self.epochs + 1 if collapsed else 0
        if self.epochs >= self.patience:
            raise UserError(
                f"The features collapsed: for {self.epochs} epochs the loss was {loss:.4f} (ln of the prototypes is "
                f"{self.ceiling:.4f}) and the features' deviation {feature_deviation:.2g}; start from pretrained "
                "weights (model.weights) or set head.batch_norm to true."
            )


class Interruption:
    """Notes SIGTERM, which a cluster sends before it takes a machine back, for the loop to see."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def watched(self):
        """Note the signal instead of dying from it, while the block runs."""

        def note(number: int, frame: object) -> None:
            self.asked = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    @staticmethod
    def leave(what: str) -> None:
        """End the process with the status that means: start me again."""
        print(
            f"{what}: asked to stop; the state is saved, and the next start goes on from it.",
            flush=True,
        )
        raise SystemExit(PREEMPTED)


def as_log(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make the table of a training's log, one row an epoch."""
    return pd.DataFrame(rows)
