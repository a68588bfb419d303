"""Bootstrap: resampled wells (for intervals) and compounds (for tests) as weights, shared by all that is compared."""

import zlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from coda.evaluation.metrics import METRICS, metric_replicates
from coda.evaluation.units import Units

CONFIDENCE = 0.95
# Metrics that can leave 0 to 1; the gap closed has no bounds.
RANGES = {
    "kappa": (-1, 1),
    "quadratic_kappa": (-1, 1),
    "difference": (-1, 1),
    "gap_closed": (-np.inf, np.inf),
}


def draws(stratum: str, size: int, replicates: int, seed: int) -> np.ndarray:
    """How often each of `size` members is drawn, with replacement, in each replicate: (replicates, size).

    The random state follows from the seed and the name of the stratum alone, so two methods, pairs
    or levels that share a plate share its draws, whatever else is scored beside them: differences
    between them are paired.
    """
    random = np.random.default_rng([seed, zlib.crc32(stratum.encode())])
    picks = random.integers(size, size=(replicates, size)) + np.arange(replicates)[:, None] * size
    return np.bincount(picks.ravel(), minlength=replicates * size).reshape(replicates, size)


def seed_weights(stratum: str, seeds: int, replicates: int, seed: int) -> np.ndarray:
    """Weights of training seeds in their resampled mean: shape (replicates, seeds), each row adds up to 1.

    Drawing k seeds with replacement finds (k - 1) / k of the variance of their mean, half of it for two. So the
    weights are spread around 1 / k by sqrt(k / (k - 1)) (Rao and Wu, 1988, for strata of few units). Some fall below
    zero by that, and resampled metrics may leave their range: `metric_interval` cuts the ends. Where the seeds
    are the larger part of the spread, intervals stay too narrow with two or three: a spread known from so few is
    itself uncertain.
    """
    weights = draws(stratum, seeds, replicates, seed) / seeds
    if seeds == 1:
        return weights
    return 1 / seeds + (weights - 1 / seeds) * np.sqrt(seeds / (seeds - 1))


def resampling_weights(resampled: pd.DataFrame, replicates: int, seed: int) -> np.ndarray:
    """Bootstrap weights of wells (or compounds) within their strata, float32, shape (replicates, G).

    Parameters
    ----------
    resampled
        One row each, columns ``stratum`` and ``name``, in any order.
    replicates
        Number of resamples.
    seed
        Same seed, same strata and same names give the same weights.
    """
    weights = np.empty((replicates, len(resampled)), np.float32)
    for stratum, rows in resampled.reset_index(drop=True).groupby("stratum"):
        order = rows["name"].sort_values().index
        weights[:, order] = draws(str(stratum), len(order), replicates, seed)
    return weights


def bootstrap(
    counted: Units, wins: list[np.ndarray], replicates: int, seed: int
) -> dict[str, np.ndarray]:
    """Every metric on `replicates` resamples: metric to float64 values of shape (replicates,).

    `wins` are the `pair_wins` of the units.
    """
    if not len(counted):
        return {metric: np.full(replicates, np.nan) for metric in METRICS}
    weights = resampling_weights(counted.resampled, replicates, seed)
    values = metric_replicates(counted, weights, wins)
    return {metric: value.astype(np.float64) for metric, value in values.items()}


def compound_weights(compounds: Iterable[str], replicates: int, seed: int) -> np.ndarray:
    """Weights of compounds in the bootstrap behind tests: shape (replicates, compounds), float64, mean 1.

    The Bayesian bootstrap (Rubin, 1981): exponential weights have the mean and the variance of counts drawn with
    replacement, but each compound has its own, which follow from the seed and its name alone. So a
    compound weighs the same for every method, seed, plate and source, even where another one was lost.

    Mechanisms are no strata: most have two or three compounds, among which resampling finds half to two
    thirds of the variance, and none in one. Without strata a difference that varies between
    mechanisms widens the spread too, so tests err to the careful side.
    """
    drawn = [
        np.random.default_rng([seed, zlib.crc32(name.encode())]).exponential(size=replicates)
        for name in compounds
    ]
    return np.array(drawn).T


def accuracy_over_compounds(counted: Units, replicates: int, seed: int) -> np.ndarray:
    """Accuracy with compounds resampled, all their units together: (replicates,), NaN without units.

    A compound stands in the same wells on every plate, so its wells on several plates are no independent
    evidence of what holds for its mechanism: only other compounds are.
    """
    if not len(counted):
        return np.full(replicates, np.nan)
    names, compound = np.unique(counted.compounds.astype(str), return_inverse=True)
    right = counted.probabilities.argmax(axis=1) == counted.labels
    weights = compound_weights(names, replicates, seed)
    return weights @ np.bincount(compound, right) / (weights @ np.bincount(compound))


def interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of bootstrap values; an undefined one counts against both ends.

    With more undefined values than the interval leaves out on a side there is no bound: NaN, NaN.
    """
    undefined, tail = np.isnan(values), (1 - CONFIDENCE) / 2
    low = np.quantile(np.where(undefined, -np.inf, values), tail, method="lower")
    high = np.quantile(np.where(undefined, np.inf, values), 1 - tail, method="higher")
    return (
        (float(low), float(high))
        if np.isfinite([low, high]).all()
        else (float("nan"), float("nan"))
    )


def metric_interval(metric: str, value: float, replicates: np.ndarray) -> tuple[float, float]:
    """Interval of a metric from its replicates, cut to the values that it can take.

    Percentiles, but for the calibration error: it adds up sizes of deviations, so noise makes it larger, in the value
    and once more in its replicates. Below, its interval is the basic one, the replicates mirrored at the value (Davison
    and Hinkley, 1997, 5.2), which takes both away; above, only what the replicates have too much is taken away, so
    the value lies inside. Near zero it still leans high: no error below zero can make up for those above.
    """
    low, high = interval(replicates)
    if metric == "calibration_error":
        low, high = min(2 * value - high, value), high - (np.mean(replicates) - value)
    low, high = np.clip([low, high], *RANGES.get(metric, (0, 1)))
    return float(low), float(high)
