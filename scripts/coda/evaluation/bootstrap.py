"""Bootstrap weights, shared by all that is compared: of wells for intervals, of compounds for tests."""

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
    """Count how often each member of a stratum is drawn, with replacement, in each replicate.

    The random state follows from the seed and the name of the stratum alone, so methods, pairs and levels that share a
    plate share its draws, whatever else is scored: differences between them are paired.

    Parameters
    ----------
    stratum
        Name of the stratum, such as a plate.
    size
        Number of its members.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    int64 array, shape (replicates, size)
    """
    random = np.random.default_rng([seed, zlib.crc32(stratum.encode())])
    picks = random.integers(size, size=(replicates, size)) + np.arange(replicates)[:, None] * size
    return np.bincount(picks.ravel(), minlength=replicates * size).reshape(replicates, size)


def seed_weights(stratum: str, seeds: int, replicates: int, seed: int) -> np.ndarray:
    """Weights of training seeds in their resampled mean.

    Drawing k seeds with replacement gives (k - 1) / k of the variance of their mean, half of it for two. The weights'
    deviations from 1 / k are therefore scaled by sqrt(k / (k - 1)) (Rao and Wu, 1988, for strata of few units). Some
    weights become negative, so resampled metrics may leave their range; `metric_interval` cuts them. Where the
    seeds make up most of the spread, intervals stay too narrow with two or three, as a spread estimated from so few is
    itself uncertain.

    Parameters
    ----------
    stratum
        Name of the stratum.
    seeds
        Number k of training seeds.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    float64 array, shape (replicates, seeds)
        Each row sums to 1.
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
    """Compute every metric on resamples.

    Parameters
    ----------
    counted
        Units of one split and level.
    wins
        Their `coda.evaluation.metrics.pair_wins`.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    dict
        Metric to float64 values, shape (replicates,).
    """
    if not len(counted):
        return {metric: np.full(replicates, np.nan) for metric in METRICS}
    weights = resampling_weights(counted.resampled, replicates, seed)
    values = metric_replicates(counted, weights, wins)
    return {metric: value.astype(np.float64) for metric, value in values.items()}


def compound_weights(compounds: Iterable[str], replicates: int, seed: int) -> np.ndarray:
    """Weights of compounds in the bootstrap behind tests.

    This is the Bayesian bootstrap (Rubin, 1981): exponential weights have the mean and the variance of counts drawn
    with replacement, but those of a compound follow from the seed and its name alone. So a compound weighs the
    same for every method, seed, plate and source, even where another one was lost.

    Mechanisms are no strata: most have two or three compounds, among which resampling gives half to two
    thirds of the variance, and none for a single one. Without strata a difference that varies between mechanisms
    widens the spread too, so tests are conservative.

    Parameters
    ----------
    compounds
        Their names.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    float64 array, shape (replicates, compounds)
        Mean 1.
    """
    drawn = [
        np.random.default_rng([seed, zlib.crc32(name.encode())]).exponential(size=replicates)
        for name in compounds
    ]
    return np.array(drawn).T


def accuracy_over_compounds(counted: Units, replicates: int, seed: int) -> np.ndarray:
    """Accuracy with compounds resampled, each with all of its units.

    A compound stands in the same wells on every plate, so its wells on several plates are no independent evidence of
    what holds for its mechanism; only other compounds are.

    Parameters
    ----------
    counted
        Units of one split and level.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    float64 array, shape (replicates,)
        NaN without units.
    """
    if not len(counted):
        return np.full(replicates, np.nan)
    names, compound = np.unique(counted.compounds.astype(str), return_inverse=True)
    right = counted.probabilities.argmax(axis=1) == counted.labels
    weights = compound_weights(names, replicates, seed)
    return weights @ np.bincount(compound, right) / (weights @ np.bincount(compound))


def interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of bootstrap values; an undefined value counts against both ends.

    With more undefined values than the interval leaves out on one side there is no bound: NaN, NaN.
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
    """Interval of a metric from its replicates, cut to the range of the metric.

    It is the percentile interval, except for the calibration error. That is a sum of absolute deviations, so noise
    biases the value upwards, and the replicates once more. Its lower end is that of the basic interval, with the
    replicates mirrored at the value (Davison and Hinkley, 1997, 5.2), which removes both biases; at the upper end
    only the bias of the replicates is removed, so that the interval includes the value. Near zero the interval
    remains biased upwards, as no error is negative.

    Parameters
    ----------
    metric
        One of `coda.evaluation.metrics.METRICS`, ``"difference"`` or ``"gap_closed"``.
    value
        Its value.
    replicates
        Its values on resamples, shape (replicates,).
    """
    low, high = interval(replicates)
    if metric == "calibration_error":
        low, high = min(2 * value - high, value), high - (np.mean(replicates) - value)
    low, high = np.clip([low, high], *RANGES.get(metric, (0, 1)))
    return float(low), float(high)
