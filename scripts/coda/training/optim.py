"""Values that change with the training step: learning rate, weight decay, momentum, temperature."""

import math


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
