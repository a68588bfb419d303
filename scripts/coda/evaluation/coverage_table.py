"""The table of how often prediction sets hold the right mechanism: its columns, and what is shown of it."""

from pathlib import Path

import pandas as pd

from coda.columns import ADAPTED, VALIDATION
from coda.files import read_table

VALUES = ("coverage", "low", "high", "set_size", "empty", "too_large")
OF_ALL, OF_MECHANISM, OF_COMPOUND = "all", "mechanism", "compound"


def read_coverage(path: str | Path) -> pd.DataFrame:
    """Read the table of `coda.predict.coverage_scores.score_coverage` back from CSV, numbers as numbers."""
    counts = dict.fromkeys(("seed", "units", "compounds"), int)
    return read_table(path).astype(counts | dict.fromkeys(("asked", *VALUES), float))


def of_compounds(coverage: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of compounds' sets over seeds, at home and on adapted plates.

    Parameters
    ----------
    coverage
        As `coda.predict.coverage_scores.score_coverage` gives it.

    Returns
    -------
    pandas.DataFrame
        train_source, target_source, method, split, of, name, and the means of units, compounds, asked and `VALUES`.
    """
    rows = coverage[
        (coverage["level"] == "compound") & coverage["split"].isin([ADAPTED, VALIDATION])
    ]
    keys = ["train_source", "target_source", "method", "split", "of", "name"]
    numbers = ["units", "compounds", "asked", *VALUES]
    return rows.groupby(keys, sort=False)[numbers].mean().reset_index()
