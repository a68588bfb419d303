"""Tests of differences between methods: paired bootstrap over compounds, with Holm's correction.

Where one layout repeats the same few compounds on every plate, differences between methods go with the
compound: many wells are then little evidence of what holds for its mechanism.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from coda.methods import compared_with

TESTS = (
    "Intervals resample wells, so they hold for these compounds in new wells. Tests (p) resample compounds with all "
    "their wells on all plates, so they hold for new compounds of the same mechanisms. Both include the spread between "
    "training runs where there are several seeds. Means over pairs hold for these sources; the spread between other "
    "labs is not included."
)
ALPHA = 0.05  # a difference is significant if its corrected p is below; intervals have the level 1 - ALPHA
# Planned comparisons: every method with itself before adaptation, and CODA with ODA, which differ in partners only.
# Other differences have intervals but no test, as each test costs all others power.
PAIRS_TESTED = (("coda", "oda"),)


class Paired(NamedTuple):
    """What holds of a difference for other compounds: its interval and its p, NaN where they are unknown."""

    low: float
    high: float
    p: float


UNKNOWN = Paired(float("nan"), float("nan"), float("nan"))


def paired_test(difference: float, replicates: np.ndarray, compounds: int) -> Paired:
    """Test a difference against zero, two-sided, by its paired replicates over compounds, and give its interval.

    The Bayesian bootstrap of a mean over n compounds has the variance (n - 1) / (n + 1) * s^2 / n, with s^2 the
    sample variance (Rubin, 1981, Annals of Statistics 9, 130-134), so its standard deviation times
    sqrt((n + 1) / (n - 1)) is the usual standard error. The difference over it is compared with Student's t with
    n - 1 degrees of freedom: with equally many wells a compound, this is the paired t-test over compounds. Counting
    replicates beyond zero could not give a p below 2 / (replicates + 1), too large for a correction over a hundred
    tests.

    Parameters
    ----------
    difference
        The difference itself.
    replicates
        The same with compounds resampled (`coda.evaluation.bootstrap.compound_weights`).
    compounds
        Number n of distinct compounds behind the difference. Means over plates, seeds and pairs of sources repeat the
        same compounds with the same weights, so they have no more of them than one plate has. The variance of resampled
        seeds, which needs no such correction, is made a little larger by it.

    Returns
    -------
    Paired
        Interval and p agree: it holds zero where p is above `ALPHA`. No width and p = 1 where there is no difference
        in any replicate; unknown where the replicates do not vary around a difference, or one is undefined,
        since then they give no standard error, and with fewer than two compounds.
    """
    spread = np.std(replicates, ddof=1)
    if np.isnan(difference) or np.isnan(spread) or compounds < 2:
        return UNKNOWN
    # Sums in another order differ in their last digits, so "no spread" is not an exact zero.
    if spread < 1e-6:
        return Paired(difference, difference, 1.0) if abs(difference) < 1e-6 else UNKNOWN
    error = spread * np.sqrt((compounds + 1) / (compounds - 1))
    p = 2 * t.sf(abs(difference) / error, compounds - 1)
    reach = t.isf(ALPHA / 2, compounds - 1) * error
    return Paired(float(difference - reach), float(difference + reach), float(p))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for multiple testing (Holm, 1979); NaN stays NaN and counts as no test."""
    # As statsmodels' multipletests, which collects garbage at every call: a third of a second, for each family.
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def is_planned(method: str, baseline: str | None) -> bool:
    """Say whether the difference between a method and a baseline, if any, is one of the planned tests."""
    planned = baseline == compared_with(method) or (method, baseline) in PAIRS_TESTED
    return baseline is not None and planned


def own_tests(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of `scores` that hold the difference of each method from the one it is compared with."""
    own = scores["baseline"] == scores["method"].map(compared_with)
    return scores[own & (scores["metric"] == "difference")]


def corrected(table: pd.DataFrame, families: list[str | pd.Series]) -> pd.DataFrame:
    """Add ``p_holm`` beside ``p``: Holm over the tests that agree in all of `families`, columns or beside them."""
    p_holm = table.groupby(families, dropna=False)["p"].transform(
        lambda family: holm(family.to_numpy(float))
    )
    table.insert(table.columns.get_loc("p") + 1, "p_holm", p_holm)
    return table
