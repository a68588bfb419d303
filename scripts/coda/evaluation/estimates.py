"""Estimates with their replicates: differences between methods, the gap closed, means over seeds and pairs."""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from coda.columns import VALIDATION
from coda.evaluation.bootstrap import RANGES, interval, metric_interval, seed_weights
from coda.evaluation.metrics import Score
from coda.evaluation.significance import UNKNOWN, is_planned, paired_test
from coda.methods import COMPOSED, compared_with

ALL = "all"  # stands for the sources in a mean over pairs
BASELINES = ("unadapted", "oda", "intensity", "position", "shuffled")
NO_GAP = "in domain is not above unadapted: there is no gap to close"
WIDE_GAP = "the gap is smaller than its own uncertainty: in many resamples there is none to close"


class Key(NamedTuple):
    """What an estimate is about; in means over seeds the seed is 0 and has no meaning."""

    train_source: str
    target_source: str
    seed: int
    method: str
    split: str
    level: str


@dataclass
class Estimate:
    """A value with its bootstrap replicates (none for a constant) and the counts behind it.

    `replicates` resample wells (compounds at their level) and make intervals; `over_compounds` resample
    compounds, those named in `compounds`, and make tests: accuracies and their differences have them.
    """

    score: Score
    replicates: np.ndarray | None
    n: int
    seeds: int = 1
    pairs: int = 1
    over_compounds: np.ndarray | None = None
    compounds: frozenset[str] = frozenset()


# Metric and the method compared with, None for a metric by itself.
Estimates = dict[Key, dict[tuple[str, str | None], Estimate]]
ACCURACY = ("accuracy", None)


def gap_closed(in_domain: float, unadapted: float, adapted: float) -> Score:
    """Share of the gap between labs that adaptation closes.

    ``(adapted - unadapted) / (in_domain - unadapted)``: 0 is no gain, 1 is as accurate as in domain.

    Parameters
    ----------
    in_domain, unadapted, adapted
        Accuracies.

    Returns
    -------
    Score
        NaN with a reason where in domain is not above unadapted.
    """
    if not in_domain > unadapted:
        return Score(float("nan"), NO_GAP)
    return Score((adapted - unadapted) / (in_domain - unadapted))


def compare(estimates: Estimates) -> None:
    """Add differences to the baselines and the gap closed, replicate by replicate."""
    for key in list(estimates):
        if ACCURACY not in estimates[key] or key.method == "chance":
            continue
        this = estimates[key][ACCURACY]
        for baseline in dict.fromkeys([*BASELINES, compared_with(key.method)]):
            other = estimates.get(key._replace(method=baseline), {}).get(ACCURACY)
            if other and baseline != key.method:
                estimates[key]["difference", baseline] = Difference(this, other)
        plain, home = _ends_of_gap(estimates, key)
        if plain and home and _closes_gap(key.method):
            estimates[key]["gap_closed", "unadapted"] = _gap(home, plain, this)


class Difference(Estimate):
    """Difference of two accuracies, with replicates that are computed on demand.

    A study of all pairs has several times as many differences as accuracies, too many to keep replicates of in memory.
    """

    def __init__(self, this: Estimate, other: Estimate):
        self._this, self._other = this, other
        self.score = Score(
            this.score.value - other.score.value, this.score.reason or other.score.reason
        )
        self.n, self.seeds, self.pairs = this.n, this.seeds, this.pairs

    @property
    def replicates(self) -> np.ndarray:
        """Over wells."""
        return self._this.replicates - self._other.replicates

    @property
    def over_compounds(self) -> np.ndarray:
        """Over compounds."""
        return self._this.over_compounds - self._other.over_compounds

    @property
    def compounds(self) -> frozenset[str]:
        """Compounds behind either of the two."""
        return self._this.compounds | self._other.compounds


def _closes_gap(method: str) -> bool:
    # Rows that are no method are networks in between, like those of a chain.
    return method != "in_domain" and (method not in COMPOSED or COMPOSED[method].closes_gap)


def _ends_of_gap(estimates: Estimates, key: Key) -> tuple[Estimate | None, Estimate | None]:
    home = Key(key.train_source, key.train_source, key.seed, "in_domain", VALIDATION, key.level)
    plain = key._replace(method="unadapted")
    return estimates.get(plain, {}).get(ACCURACY), estimates.get(home, {}).get(ACCURACY)


def _gap(home: Estimate, plain: Estimate, adapted: Estimate) -> Estimate:
    undefined = [end.score for end in (home, plain, adapted) if np.isnan(end.score.value)]
    score = gap_closed(home.score.value, plain.score.value, adapted.score.value)
    score = undefined[0] if undefined else score
    gap = home.replicates - plain.replicates
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(gap > 0, (adapted.replicates - plain.replicates) / gap, np.nan)
    if np.isnan(score.value):
        values = np.full_like(values, np.nan)
    elif np.isnan(interval(values)[0]):
        score = Score(float("nan"), WIDE_GAP)
    return Estimate(score, values, adapted.n, adapted.seeds, adapted.pairs)


def over_seeds(runs: Estimates, replicates: int, seed: int) -> Estimates:
    """Average over the training seeds of a pair, which are resampled too, as they are few of many.

    Parameters
    ----------
    runs
        Estimates of single training runs.
    replicates, seed
        Number of resamples, and their seed.
    """
    together: dict[Key, list[Key]] = defaultdict(list)
    for key in sorted(runs):
        together[key._replace(seed=0)].append(key)
    averaged: Estimates = {}
    for key, members in together.items():
        weights = seed_weights(f"seeds of {key.train_source}", len(members), replicates, seed)
        averaged[key] = {
            what: _mean([runs[member][what] for member in members], weights.T, seeds=len(members))
            for what in runs[members[0]]
        }
    return averaged


def over_pairs(pairs: Estimates) -> Estimates:
    """Add the means over pairs; their gap closed is the mean gain over the mean gap of the same pairs."""
    together: dict[Key, list[Key]] = defaultdict(list)
    for key in pairs:
        together[key._replace(train_source=ALL, target_source=ALL)].append(key)
    means: Estimates = {}
    for mean, members in together.items():
        means[mean] = {
            what: _mean([pairs[key][what] for key in members], pairs=len(members))
            for what in pairs[members[0]]
        }
    compare(pairs)
    for mean, members in together.items():
        compared = sorted({what for key in members for what in pairs[key] if what[1]})
        for what in compared:
            having = [key for key in members if what in pairs[key]]
            if what[0] == "difference":
                means[mean][what] = _mean([pairs[key][what] for key in having], pairs=len(having))
            else:
                ends = [_ends_of_gap(pairs, key) for key in having]
                plain, home = (
                    _mean(list(end), pairs=len(having)) for end in zip(*ends, strict=True)
                )
                adapted = _mean([pairs[key][ACCURACY] for key in having], pairs=len(having))
                means[mean][what] = _gap(home, plain, adapted)
    return pairs | means


def _mean(
    members: list[Estimate], weights: np.ndarray | None = None, seeds: int = 0, pairs: int = 0
) -> Estimate:
    values = np.array([member.score.value for member in members])
    reason = next((member.score.reason for member in members if member.score.reason), None)
    weights = np.full((len(members), 1), 1 / len(members)) if weights is None else weights
    n = members[0].n if seeds else sum(member.n for member in members)
    return Estimate(
        Score(float(values.mean()), reason),
        _weighted([member.replicates for member in members], weights),
        n,
        seeds or members[0].seeds,
        pairs or 1,
        _weighted([member.over_compounds for member in members], weights),
        frozenset().union(*(member.compounds for member in members)),
    )


def _weighted(replicates: list[np.ndarray | None], weights: np.ndarray) -> np.ndarray | None:
    return None if replicates[0] is None else (np.stack(replicates) * weights).sum(axis=0)


def estimates_table(estimates: Estimates) -> pd.DataFrame:
    """Lay estimates out one a row: value, interval over wells and, where defined, over compounds, and p if planned."""
    rows = []
    for key, by in estimates.items():
        for (metric, baseline), estimate in by.items():
            low, high = (
                (np.nan, np.nan)
                if estimate.replicates is None
                else metric_interval(metric, estimate.score.value, estimate.replicates)
            )
            if np.isnan(estimate.score.value):
                low = high = np.nan
            value, reason = estimate.score
            values = {
                "metric": metric,
                "baseline": baseline,
                "value": value,
                "low": low,
                "high": high,
            }
            tested = UNKNOWN
            if estimate.over_compounds is not None:
                tested = paired_test(value, estimate.over_compounds, len(estimate.compounds))
            ends = np.clip(tested[:2], *RANGES.get(metric, (0, 1)))
            values |= dict(zip(("low_compounds", "high_compounds"), ends, strict=True))
            values["p"] = tested.p if is_planned(key.method, baseline) else np.nan
            counts = {"n": estimate.n, "seeds": estimate.seeds, "pairs": estimate.pairs}
            rows.append({**key._asdict(), **values, **counts, "reason": reason})
    table = pd.DataFrame(rows).astype({"baseline": object, "reason": object})
    return table.sort_values(list(Key._fields[:2]), kind="stable", ignore_index=True)


def means_over_pairs(table: pd.DataFrame) -> pd.Series:
    """Mark the rows that are means over pairs: a family of tests of their own, as they repeat the pairs."""
    return table["train_source"].eq(ALL)
