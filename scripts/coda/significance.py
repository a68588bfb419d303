"""Are two methods different? Tests from the paired bootstrap over compounds, corrected for how many are made.

Where one layout repeats the same few compounds on every plate, differences between methods go with the
compound: many wells are then little evidence of what holds for its mechanism.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from coda.methods import compared_with

TESTS = (
    "Intervals resample wells and speak of these compounds in new wells; tests (p) resample compounds, with all their "
    "wells on all plates, and speak of new compounds of such mechanisms."
)
LEVEL = 0.05  # a corrected p below it survives
# Compared by plan: every method with what it was before adaptation, and the two that only partners tell
# apart. Further differences have intervals but no test, as each test would weaken all the others.
PAIRS_TESTED = (("coda", "oda"),)


def paired_p(difference: float, replicates: np.ndarray) -> float:
    """Two-sided p of a difference that is zero, from its paired bootstrap replicates (over compounds).

    The difference over its bootstrap standard error, against the normal distribution (Efron and Tibshirani,
    1993). Counting the replicates beyond zero could not go below 2 / (replicates + 1), which no correction
    over a hundred tests survives.

    Returns
    -------
    float
        1 where there is no difference in any replicate; NaN where the replicates do not vary around a
        difference, or where one is undefined, since then they give no standard error.
    """
    error = np.std(replicates, ddof=1)
    if np.isnan(difference) or np.isnan(error):
        return float("nan")
    # Replicates come from sums in single precision, so "no spread" is not an exact zero.
    if error < 1e-6:
        return 1.0 if abs(difference) < 1e-6 else float("nan")
    return float(2 * norm.sf(abs(difference) / error))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values so that any false one among them has at most the chance claimed (Holm, 1979).

    NaN stays NaN and counts as no test.
    """
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def is_planned(method: str, metric: str, baseline: str | None) -> bool:
    """Say whether a row of the scores is one of the planned tests."""
    return metric == "difference" and (
        baseline == compared_with(method) or (method, baseline) in PAIRS_TESTED
    )


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
