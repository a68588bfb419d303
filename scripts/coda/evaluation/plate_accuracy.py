"""Accuracy on each plate by itself, for who asks on which plates a method works."""

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS
from coda.evaluation.bootstrap import resampling_weights
from coda.evaluation.estimates import ACCURACY, Estimate, Estimates, Key, estimates_table
from coda.evaluation.metrics import Score
from coda.evaluation.units import Units

LEVELS = ("image", "well")  # compounds are gathered over plates
FEWEST = 5  # labelled wells of a plate that an interval needs
COLUMNS = ["train_source", *PLATE_KEYS, "subset", "method", "level"]
COLUMNS += ["value", "low", "high", "n", "seeds"]


def accuracies_by_plate(counted: Units, replicates: int, seed: int) -> dict[str, Estimate]:
    """Estimate the accuracy on each plate, over the same resamples of its wells as everywhere.

    Parameters
    ----------
    counted
        Images or wells.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    dict
        Stratum of the bootstrap, ``source/plate``, to its estimate.
    """
    right = counted.probabilities.argmax(axis=1) == counted.labels
    hits = np.bincount(counted.groups, right, len(counted.resampled))
    sizes = np.bincount(counted.groups, minlength=len(counted.resampled))
    weights = resampling_weights(counted.resampled, replicates, seed)
    found = {}
    for stratum, rows in counted.resampled.groupby("stratum").indices.items():
        drawn = weights[:, rows]
        replicates_of = drawn @ hits[rows] / (drawn @ sizes[rows])
        if len(rows) < FEWEST:
            replicates_of = np.full_like(replicates_of, np.nan)
        value = Score(float(hits[rows].sum() / sizes[rows].sum()))
        found[stratum] = Estimate(value, replicates_of, int(sizes[rows].sum()))
    return found


def add_plates(runs: Estimates, key: Key, counted: Units, replicates: int, seed: int) -> None:
    """Add the accuracy on each plate to the estimates of runs, with the plate in place of the key's split."""
    for stratum, estimate in accuracies_by_plate(counted, replicates, seed).items():
        runs[key._replace(split=stratum.split("/", 1)[1])] = {ACCURACY: estimate}


def plates_table(means: Estimates, plates: pd.DataFrame) -> pd.DataFrame:
    """Lay accuracies by plate out, one a row.

    Parameters
    ----------
    means
        Of `add_plates`, averaged over seeds.
    plates
        Metadata_Source, Metadata_Plate and subset.

    Returns
    -------
    pandas.DataFrame
        train_source, Metadata_Source, Metadata_Plate, subset, method, level, value, low, high (over wells; none of
        fewer than `FEWEST`), n, seeds.
    """
    if not means:
        return pd.DataFrame(columns=COLUMNS)
    table = estimates_table(means).rename(
        columns={"target_source": "Metadata_Source", "split": "Metadata_Plate"}
    )
    return table.merge(plates[[*PLATE_KEYS, "subset"]], on=PLATE_KEYS)[COLUMNS]
