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


def ramp(step: int, steps: int, start: float, end: float) -> float:
    """Go linearly from `start` to `end` over `steps` steps, then stay at `end`."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps
