"""Optimisation: parameter groups, a step, and the values that change with its number."""

import math
from typing import Any

import torch
from torch import nn


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


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at the last step, ``steps - 1``.

    Examples
    --------
    >>> cosine(0, 11, 1.0, 0.0), round(cosine(5, 11, 1.0, 0.0), 6), cosine(10, 11, 1.0, 0.0)
    (1.0, 0.5, 0.0)
    """
    if steps <= 1:
        return end
    share = min(step, steps - 1) / (steps - 1)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def warmup_cosine(step: int, steps: int, warmup: int, peak: float, end: float) -> float:
    """Rise linearly from 0 to `peak` over `warmup` steps, then fall by a cosine to `end`."""
    if step < warmup:
        return peak * step / warmup
    return cosine(step - warmup, steps - warmup, peak, end)


def warmup_constant(step: int, warmup: int, peak: float) -> float:
    """Rise linearly from 0 to `peak` over `warmup` steps, then stay."""
    return peak * min(1.0, step / warmup) if warmup else peak


# The shortest adaptation that the paper reports: 300 epochs of 29 batches of 128 sites, from the 141 labelled wells of
# 9 sites on each of source_8's three plates. Its teacher has the momentum 0.996 at the start, as in all of them.
PAPER_MOMENTUM, PAPER_STEPS = 0.996, 8_700


def teacher_momentum(momentum: float | str, steps: int) -> float:
    """Momentum of the teacher at the start of a training of so many steps.

    An average with momentum m looks back over ``-1 / ln(m)`` steps. With 0.996 that is 250 steps, 2.9 % of the
    paper's shortest schedule but all of a schedule of 250 steps, at whose end the teacher still is more than
    half of what it began as. ``"auto"`` keeps the share: for ``PAPER_STEPS / k`` steps the momentum is
    ``0.996 ** k``, the rule by which Busbridge et al. ("How to Scale Your EMA", NeurIPS 2023) let it follow the
    size of batches. Schedules as long as that one or longer keep 0.996, as the paper does.

    Examples
    --------
    >>> teacher_momentum(0.99, 100), teacher_momentum("auto", 8_700), teacher_momentum("auto", 68_000)
    (0.99, 0.996, 0.996)
    >>> round(teacher_momentum("auto", 500), 4)
    0.9326
    """
    if momentum != "auto":
        return momentum
    return PAPER_MOMENTUM ** max(1.0, PAPER_STEPS / steps)


def ramp(step: int, steps: int, start: float, end: float) -> float:
    """Go linearly from `start` to `end` over `steps` steps, then stay at `end`."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps
