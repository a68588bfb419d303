"""How often prediction sets hold the right mechanism, told by the labels of a study; nothing is chosen by it.

Sets are made as calls make theirs: by the unadapted pipeline on the held-out plate of the training source, whatever
the method. At home the sets of a compound come from the other compounds of that plate.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from coda.columns import VALIDATION
from coda.evaluation.coverage_table import OF_ALL, OF_COMPOUND, OF_MECHANISM
from coda.evaluation.units import (
    Units,
    classes_of,
    read_predictions,
    target_splits,
    units,
    usable,
)
from coda.predict.coverage import Calibration, calibrate, deal, too_large

LEVELS = ("compound", "well")  # of calls
STARTING = "unadapted"


def score_coverage(
    runs: Iterable[Mapping[str, Any]], plates: pd.DataFrame, asked: float
) -> pd.DataFrame:
    """Score the prediction sets of a study.

    Parameters
    ----------
    runs
        ``train_source``, ``target_source``, ``seed``, ``method`` and ``path`` of predictions, those of ``"unadapted"``
        on the training sources' own held-out plates among them.
    plates
        Metadata_Source, Metadata_Plate and subset.
    asked
        Share of sets that shall hold the right mechanism.

    Returns
    -------
    pandas.DataFrame
        train_source, target_source, seed, method, split, level (compound or well); ``of``: all units together, those
        of one mechanism or of one compound, ``name``; ``units`` and the ``compounds`` among them; ``asked``;
        ``coverage``, the share of units whose sets hold the right mechanism, with ``low`` and ``high``;
        ``set_size``, their mean size; ``empty`` and ``too_large``, the shares of units that abstain for it.
        The interval is Wilson's 95 % for as many draws as there are compounds, since wells of one share their fate;
        one compound has none.
    """
    runs = pd.DataFrame(runs)
    tables = []
    for (source, seed), trained in runs.groupby(["train_source", "seed"], sort=False):
        at_home = (trained["target_source"] == source) & (trained["method"] == STARTING)
        home = usable(read_predictions(trained.loc[at_home, "path"].item()))
        known = {level: calibrate(home, level) for level in LEVELS}
        here = {"train_source": source, "seed": seed}
        tables += [
            table.assign(**here, target_source=source, method=STARTING, split=VALIDATION)
            for table in _at_home(home, asked)
        ]
        for run in trained[~at_home].itertuples():
            told = {"target_source": run.target_source, "method": run.method}
            splits = target_splits(usable(read_predictions(run.path)), plates)
            tables += [
                summarise(
                    sets_of(units(rows, classes_of(rows), level), known[level], asked)
                ).assign(**here, **told, split=split, level=level)
                for split, rows in splits.items()
                for level in LEVELS
            ]
    keys = ["train_source", "target_source", "seed", "method", "split", "level", "of", "name"]
    table = pd.concat(tables, ignore_index=True).assign(asked=asked)
    return table[[*keys, *(name for name in table if name not in keys)]]


def _at_home(home: pd.DataFrame, asked: float) -> Iterator[pd.DataFrame]:
    """Score the plate that calibrates: each fold of its compounds by what the other folds say."""
    rows = home[home["Metadata_moa"].notna()]
    fold = deal(rows["Metadata_JCP2022"].to_numpy())
    if fold.max(initial=0) == 0:
        return
    classes = classes_of(rows)
    for level in LEVELS:
        parts = [
            sets_of(
                units(rows[fold == number], classes, level),
                calibrate(rows[fold != number], level),
                asked,
            )
            for number in np.unique(fold)
        ]
        yield summarise(pd.concat(parts)).assign(level=level)


def sets_of(known: Units, calibration: Calibration, asked: float) -> pd.DataFrame:
    """Make the set of each labelled unit, and look whether it holds the right mechanism.

    Returns
    -------
    pandas.DataFrame
        ``mechanism`` and ``compound`` of each unit, whether its set ``holds`` the mechanism, its ``size``, and whether
        it is ``too_large``.
    """
    inside = calibration.sets(calibration.probabilities(known.logits), asked)
    return pd.DataFrame(
        {
            "mechanism": np.array(known.classes, dtype=object)[known.labels],
            "compound": known.compounds,
            "holds": inside[np.arange(len(known)), known.labels],
            "size": inside.sum(axis=1),
            "too_large": too_large(inside),
        }
    )


def summarise(sets: pd.DataFrame) -> pd.DataFrame:
    """Average over all units, over those of each mechanism and over those of each compound."""
    sets = sets.assign(**{OF_ALL: OF_ALL, "empty": sets["size"] == 0})
    tables = []
    for of in (OF_ALL, OF_MECHANISM, OF_COMPOUND):
        # A column that is grouped by cannot be counted too.
        table = (
            sets.assign(name=sets[of])
            .groupby("name", sort=True)
            .agg(
                units=("holds", "size"),
                compounds=("compound", "nunique"),
                coverage=("holds", "mean"),
                set_size=("size", "mean"),
                empty=("empty", "mean"),
                too_large=("too_large", "mean"),
            )
        )
        tables.append(table.reset_index().assign(of=of))
    table = pd.concat(tables, ignore_index=True)
    share, drawn = table["coverage"], table["compounds"]
    low, high = proportion_confint(share * drawn, drawn, method="wilson")
    return table.assign(low=low.where(drawn > 1), high=high.where(drawn > 1))
