"""Scores of the experiments: every part of each scored, compared, and averaged over seeds and pairs."""

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from coda.columns import HELD_OUT
from coda.errors import UserError
from coda.evaluation.estimates import (
    ACCURACY,
    Difference,
    Estimate,
    Estimates,
    Key,
    estimates_table,
    means_over_pairs,
    over_pairs,
    over_seeds,
)
from coda.evaluation.experiment_parts import (
    BEFORE,
    Pair,
    compounds_parts,
    mix_parts,
    online_parts,
    plates_parts,
)
from coda.evaluation.scores import estimate_all, read_scores
from coda.evaluation.significance import corrected
from coda.evaluation.units import LEVELS, classes_of, read_predictions
from coda.progress import track


def score_experiments(
    pairs: Iterable[Pair],
    experiments: list[str],
    counts: list[int],
    replicates: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score the experiments and compare their methods on the same wells.

    Parameters
    ----------
    pairs
        Every training run on every pair of sources.
    experiments
        ``"plates"``, ``"online"``, ``"compounds"`` or ``"mix"``.
    counts
        Numbers of plates asked for.
    replicates, seed
        Number of bootstrap resamples, and their seed.

    Returns
    -------
    pandas.DataFrame
        One value a row, as in `coda.evaluation.scores.Evaluation.summary` (means over seeds, and over pairs
        where both sources are ``"all"``), after the columns ``experiment`` and ``step`` (the number of
        plates adapted to, or of the plate in the chain; empty where there is none). Holm's correction is
        over all steps, methods and pairs of an experiment, split and level.

    Raises
    ------
    UserError
        If a file of predictions cannot be read.
    """
    parts_of = {
        "plates": partial(plates_parts, counts=counts),
        "online": online_parts,
        "compounds": compounds_parts,
        "mix": mix_parts,
    }
    pairs = list(pairs)
    groups: dict[tuple[str, int | None], Estimates] = defaultdict(lambda: defaultdict(dict))
    for pair in track(pairs, "score experiments", len(pairs), "pairs"):
        estimates = lru_cache(maxsize=None)(_Scorer(replicates, seed))
        for part in (part for name in experiments for part in parts_of[name](pair)):
            for level in LEVELS:
                target = pair.train_source if part.method == "in_domain" else pair.target_source
                key = Key(pair.train_source, target, pair.seed, part.method, part.split, level)
                place = pair.train_source if part.at_home else pair.target_source
                scored, guess = estimates(part.path, place, part.plates, part.compounds, level)
                runs = groups[part.experiment, part.step]
                runs[key] = dict(scored)
                if guess:
                    runs[key._replace(method="chance")] = {ACCURACY: guess}
    tables = [_asked_in_vain(pairs, counts)] if "plates" in experiments else []
    for (experiment, step), runs in groups.items():
        table = _summary(runs, step, replicates, seed)
        table.insert(0, "experiment", experiment)
        table.insert(1, "step", step)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True)
    whole = corrected(whole, ["experiment", "split", "level", means_over_pairs(whole)])
    return whole.astype({"step": "Int64"}).sort_values(
        ["experiment", "step", "train_source", "target_source"], kind="stable", ignore_index=True
    )


def read_experiment_scores(path: str | Path) -> pd.DataFrame:
    """Read the scores of the experiments back, numbers as numbers."""
    table = read_scores(path)
    return table.assign(step=pd.to_numeric(table["step"]).astype("Int64"))


class _Scorer:
    """Estimates of a file's rows on some plates of a source and compounds; the files of one pair stay read."""

    def __init__(self, replicates: int, seed: int):
        self.replicates, self.seed = replicates, seed
        self.read = lru_cache(maxsize=4)(read_predictions)

    def __call__(
        self,
        path: str,
        source: str,
        plates: tuple[str, ...],
        compounds: frozenset[str] | None,
        level: str,
    ) -> tuple[dict[tuple[str, None], Estimate], Estimate | None]:
        table = self.read(path)
        classes = classes_of(table)
        here = table["Metadata_Source"] == source
        counts = here & table["Metadata_Plate"].isin(plates)
        if compounds is not None:
            counts &= table["Metadata_JCP2022"].isin(compounds)
        absent = set(plates) - set(table.loc[here, "Metadata_Plate"])
        if absent:
            raise UserError(f"{path} lacks plate {min(absent)}; remove the file and predict again.")
        return estimate_all(table[counts], classes, level, self.replicates, self.seed)


def _summary(runs: Estimates, step: int | None, replicates: int, seed: int) -> pd.DataFrame:
    """Means over seeds and pairs, with differences."""
    means = over_seeds(runs, replicates, seed)
    for key in list(means):
        before = means.get(key._replace(method=BEFORE), {}).get(ACCURACY)
        if before and key.method == "coda":
            means[key]["difference", BEFORE] = Difference(means[key][ACCURACY], before)
    table = estimates_table(over_pairs(means)).drop(columns="seed")
    # At home there is no gap between labs, only what adaptation made one forget.
    no_gap = (table["split"] == "home") & (table["metric"] == "gap_closed")
    # Before the first plate of a chain nothing is adapted yet: no difference, and nothing to test.
    same = (table["method"] == BEFORE) & (table["baseline"] == "unadapted") & (step == 1)
    return table[~no_gap & ~same]


def _asked_in_vain(pairs: list[Pair], counts: list[int]) -> pd.DataFrame:
    """Rows without a value for the numbers of plates that a target does not have."""
    rows = {
        (pair.train_source, pair.target_source, count, level): dict(
            experiment="plates",
            step=count,
            train_source=pair.train_source,
            target_source=pair.target_source,
            method="coda",
            split=HELD_OUT,
            level=level,
            metric="accuracy",
            value=np.nan,
            low=np.nan,
            high=np.nan,
            n=0,
            seeds=0,
            pairs=0,
            reason=f"{pair.target_source} has {len(pair.plates)} plates to adapt to",
        )
        for pair in pairs
        for count in counts
        for level in LEVELS
        if count > len(pair.plates)
    }
    return pd.DataFrame(list(rows.values()))
