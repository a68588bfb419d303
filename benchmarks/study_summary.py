"""What the scores of the study amount to: means over worlds with intervals, shares of gaps, differences from rivals."""

import math

import numpy as np
import pandas as pd
from scipy import stats

IN_DOMAIN, UNADAPTED = "in domain", "unadapted"
METHOD = "harmonised coda_consensus"
SECOND, BEFORE_SECOND = "harmonised supervised_consensus", "harmonised supervised_adabn"
COVERAGE = 0.9
# Of knocked-out labs; see benchmarks/knockouts.yaml.
CAUSES = {
    "source_2": "nothing",
    "source_3": "optics",
    "source_4": "noise",
    "source_6": "bleed-through",
    "source_7": "intensity",
    "source_8": "density",
    "source_10": "pixel size",
    "source_11": "larger cells",
}
# Names of methods of this project; all others are rivals, and so is CODA, which is not its invention.
OWN = (UNADAPTED, "harmonised", "harmonised coda_consensus")


def is_rival(method: str) -> bool:
    """Whether the method has to be beaten."""
    return not method.startswith(OWN)


def mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over worlds with a 95 % Student's t interval; the limits are NaN for a single world."""
    values = np.asarray(values, float)
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def accuracies(scores: pd.DataFrame, split: str, level: str = "image") -> pd.DataFrame:
    """Accuracy of each method (columns) in each world (rows, in their order): the mean of its targets.

    Only methods that are there in every world; `IN_DOMAIN` is the same for both splits.
    """
    rows = scores[scores["level"] == level]
    rows = rows[(rows["split"] == split) | (rows["method"] == IN_DOMAIN)]
    rows = rows.assign(value=rows["right"] / rows["units"])
    wide = rows.pivot_table("value", "world", "method", "mean")
    return wide.loc[rows["world"].unique(), rows["method"].unique()].dropna(axis=1)


def gap_closed(wide: pd.DataFrame) -> pd.DataFrame:
    """Share of each world's gap that each method closes."""
    before, home = wide[UNADAPTED], wide[IN_DOMAIN]
    return wide.sub(before, axis=0).div(home - before, axis=0)


def worst_pair(scores: pd.DataFrame, split: str, level: str = "image") -> pd.Series:
    """Lowest difference in accuracy from the unadapted pipeline of any pair, by method."""
    rows = scores[(scores["split"] == split) & (scores["level"] == level)]
    rows = rows[rows["method"] != IN_DOMAIN]
    rows = rows.assign(value=rows["right"] / rows["units"])
    wide = rows.pivot_table("value", ["world", "target"], "method", "mean", sort=False)
    return wide.sub(wide[UNADAPTED], axis=0).min()


def differences(
    wide: pd.DataFrame, method: str = METHOD, others: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Accuracy of the method less that of each rival and of others, over worlds: columns mean, low and high."""
    rivals = [name for name in wide if is_rival(name) and name != IN_DOMAIN]
    rivals += [name for name in others if name in wide]
    rows = {name: mean_and_interval(wide[method] - wide[name]) for name in rivals}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"])
