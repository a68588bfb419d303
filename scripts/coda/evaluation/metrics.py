"""Metrics of a classifier from weighted counts, for many weightings at once.

Equal weights give the score itself, a thousand resampled ones its bootstrap. Both come from the same code, so a value
and its interval share one definition.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse

from coda.evaluation.units import Units, units

METRICS = (
    "accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "kappa",
    "quadratic_kappa",
    "macro_auc",
    "calibration_error",
)
BINS = 15


# These average over the classes of the task, so a class without a true example leaves them undefined.
NEED_EVERY_CLASS = ("macro_precision", "macro_recall", "macro_f1", "macro_auc")


class Score(NamedTuple):
    """A value, or NaN and the reason why there is none; a defined value may carry a remark."""

    value: float
    reason: str | None = None


def score(predictions: pd.DataFrame, classes: list[str], level: str = "image") -> dict[str, Score]:
    """Compute every metric on one table of predictions.

    Parameters
    ----------
    predictions
        Sites with ``Metadata_*`` and ``Logit_<moa>`` columns; unlabelled rows are left out.
    classes
        Mechanisms of action of the task.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    dict
        Metric to `Score`; an undefined value is NaN with its reason, never a default.
    """
    counted = units(predictions, classes, level)
    return score_units(counted, pair_wins(counted))


def score_units(counted: Units, wins: list[np.ndarray]) -> dict[str, Score]:
    """Score units, `wins` being their `pair_wins`; see `score`."""
    if not len(counted):
        return {metric: Score(float("nan"), "no labelled images") for metric in METRICS}
    everyone = np.ones((1, len(counted.resampled)))
    values = metric_replicates(counted, everyone, wins)
    return {metric: _explained(metric, float(values[metric][0]), counted) for metric in METRICS}


def _explained(metric: str, value: float, counted: Units) -> Score:
    present = np.bincount(counted.labels, minlength=len(counted.classes)) > 0
    absent = [name for name, there in zip(counted.classes, present, strict=True) if not there]
    if absent and metric in NEED_EVERY_CLASS:
        named = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        return Score(float("nan"), f"no example of {named}")
    if np.isnan(value):
        return Score(
            value,
            "truth and predictions are one and the same class"
            if "kappa" in metric
            else "one class only",
        )
    never = len(counted.classes) - len(np.unique(counted.probabilities.argmax(axis=1)))
    if metric == "macro_precision" and never:
        return Score(value, f"counts 0 for {never} class(es) never predicted")
    return Score(value)


def metric_replicates(
    counted: Units, weights: np.ndarray, wins: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """Compute every metric under every weighting.

    Parameters
    ----------
    counted
        Units with N members in G groups of the resampling.
    weights
        How often each group counts, shape (R, G); its precision is that of the result.
    wins
        `pair_wins` of the same units.

    Returns
    -------
    dict
        Metric to values of shape (R,), NaN where undefined. A class that has no weight in a row is
        left out of that row's macro means, as rare classes drop out of many resamples.
    """
    confusion = _confusion(counted, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            **_from_confusion(confusion),
            "kappa": _kappa(confusion, 1.0 - np.eye(len(counted.classes))),
            "quadratic_kappa": _kappa(confusion, _squared_distance(len(counted.classes))),
            "macro_auc": _macro_auc(counted, weights, wins),
            "calibration_error": calibration_error(counted, weights),
        }


def pair_wins(counted: Units) -> list[np.ndarray]:
    """Count, for each class, how often its units outscore the others, by pairs of groups.

    Returns
    -------
    list
        For each class with units an array of shape (its groups, all groups): pairs of units of the
        two groups where the first has the higher probability of the class, ties as a half.
    """
    starts = np.searchsorted(counted.groups, np.arange(len(counted.resampled)))
    tables = []
    for label in np.unique(counted.labels):
        first, last = np.searchsorted(counted.labels, [label, label + 1])
        own, everyone = (
            counted.probabilities[first:last, label, None],
            counted.probabilities[None, :, label],
        )
        doubled = (own > everyone).view(np.int8) + (own >= everyone).view(np.int8)
        mine = starts[(starts >= first) & (starts < last)] - first
        by_group = np.add.reduceat(
            np.add.reduceat(doubled, mine, axis=0, dtype=np.int32), starts, axis=1
        )
        tables.append(by_group / 2)
    return tables


def _confusion(counted: Units, weights: np.ndarray) -> np.ndarray:
    size = len(counted.classes)
    cell = counted.labels * size + counted.probabilities.argmax(axis=1)
    return _sums(cell, size * size, counted.groups, weights).reshape(-1, size, size)


def _sums(
    cell: np.ndarray,
    cells: int,
    groups: np.ndarray,
    weights: np.ndarray,
    values: np.ndarray | None = None,
) -> np.ndarray:
    """Weighted sums of `values` (ones by default) by cell: (R, cells)."""
    values = np.ones(len(cell)) if values is None else values
    table = scipy.sparse.csr_array(
        (values.astype(weights.dtype), (cell, groups)), shape=(cells, weights.shape[1])
    )
    return (table @ weights.T).T


def _from_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    hits, truth, guessed = (
        np.einsum("rii->ri", confusion),
        confusion.sum(axis=2),
        confusion.sum(axis=1),
    )
    there = truth > 0
    precision = np.where(guessed > 0, hits / np.where(guessed > 0, guessed, 1), 0)
    return {
        "accuracy": hits.sum(axis=1) / truth.sum(axis=1),
        "macro_precision": _mean_where(precision, there),
        "macro_recall": _mean_where(hits / truth, there),
        "macro_f1": _mean_where(2 * hits / (truth + guessed), there),
    }


def _mean_where(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)


def _squared_distance(size: int) -> np.ndarray:
    # The protocol reports it, though the order of the classes (alphabetical) has no meaning.
    return np.subtract.outer(np.arange(size), np.arange(size)).astype(float) ** 2


def _kappa(confusion: np.ndarray, cost: np.ndarray) -> np.ndarray:
    total = confusion.sum(axis=(1, 2))
    seen = np.einsum("rij,ij->r", confusion, cost)
    expected = (
        np.einsum("ri,ij,rj->r", confusion.sum(axis=2), cost, confusion.sum(axis=1), optimize=True)
        / total
    )
    return np.where(expected > 0, 1 - seen / expected, np.nan)


def _macro_auc(counted: Units, weights: np.ndarray, wins: list[np.ndarray]) -> np.ndarray:
    """Mean over ordered pairs of classes of the area under the curve between the two (Hand and Till, 2001)."""
    labels = counted.resampled["label"].to_numpy()
    present, starts = np.unique(labels, return_index=True)
    sizes = np.bincount(counted.groups).astype(weights.dtype)
    mass = np.add.reduceat(weights * sizes, starts, axis=1)
    total, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for row, label in enumerate(present):
        won = (weights[:, labels == label] @ wins[row].astype(weights.dtype)) * weights
        area = np.add.reduceat(won, starts, axis=1) / (mass[:, [row]] * mass)
        defined = (mass[:, [row]] > 0) & (mass > 0) & (np.arange(len(present)) != row)
        total += np.where(defined, area, 0).sum(axis=1)
        pairs += defined.sum(axis=1)
    return np.where(pairs > 0, total / pairs, np.nan)


def confidence_bins(counted: Units) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence of each unit (its highest probability), whether it is right, and its bin of confidence.

    `BINS` bins of equal width from 0 to 1, each with its upper edge.
    """
    confidence = counted.probabilities.max(axis=1)
    right = counted.probabilities.argmax(axis=1) == counted.labels
    return confidence, right, np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def calibration_error(counted: Units, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error over `confidence_bins` (Guo et al., 2017), shape (R,)."""
    confidence, right, bin_of = confidence_bins(counted)
    excess = _sums(bin_of, BINS, counted.groups, weights, confidence - right)
    total = (weights * np.bincount(counted.groups)).sum(axis=1)
    return np.abs(excess).sum(axis=1) / total
