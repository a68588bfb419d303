"""Experiments beside the standard run: which plates adaptation sees, in which order, and for how long.

The rules plan with these functions, so this module imports nothing heavy.
"""

from typing import Any

from coda.columns import natural_order

# Keys of a DINO training that count epochs: a schedule keeps its shape only if all of them change together.
SCHEDULE = ("epochs", "warmup_epochs", "teacher_temperature_epochs", "frozen_epochs")


def in_batch_order(plates: list[tuple[str, str]]) -> list[str]:
    """Put plates in the order of their batches, numbers within names counted as numbers.

    Parameters
    ----------
    plates
        Batch and plate of each. JUMP's names of batches carry their date or number, so their order
        is that in which the plates were made, as far as the names tell.
    """
    return [plate for _, plate in sorted(plates, key=_names)]


def spread_over_batches(plates: list[tuple[str, str]]) -> list[str]:
    """Put plates in an order whose first n come from as many batches as n plates can.

    The first plate of every batch, then the second of every batch, and so on: the plates that a
    smaller number adapts to are among those of a larger one.

    Parameters
    ----------
    plates
        Batch and plate of each, in any order.
    """
    taken: dict[str, int] = {}
    rounds = []
    for batch, plate in sorted(plates, key=_names):
        taken[batch] = taken.get(batch, 0) + 1
        rounds.append((taken[batch], batch, plate))
    return [plate for _, _, plate in sorted(rounds, key=lambda each: (each[0], _names(each[1:])))]


def _names(plate: tuple[str, str]) -> list[list]:
    return [natural_order(name) for name in plate]


def plate_counts(total: int, asked: list[int]) -> list[int]:
    """Give the numbers of plates to adapt to: those of `asked` below the `total` of a target, and the total."""
    return [*sorted(count for count in set(asked) if count < total), total]


def stretched(training: dict[str, Any], factor: float) -> dict[str, Any]:
    """Make a training `factor` times as long, in epochs, with a schedule of the same shape.

    A tenth of the plates makes epochs of a tenth of the steps: ten times the epochs give them as many steps as all
    plates have, so that longer training is not mistaken for a benefit of more plates.

    Parameters
    ----------
    training
        The section ``adapt`` of the config.
    factor
        Epochs wanted over those of the config.
    """
    changed = {key: round(training[key] * factor) for key in SCHEDULE}
    # What begins with one epoch or more keeps one.
    return training | {key: max(changed[key], min(training[key], 1)) for key in SCHEDULE}
