"""Well profiles: embeddings averaged over sites, as tables that pycytominer and copairs read."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from coda.columns import WELL_KEYS
from coda.errors import UserError
from coda.evaluation.units import read_predictions
from coda.files import read_table, write_table
from coda.progress import track

FEATURE = "Embedding_"


def well_profiles(predictions: pd.DataFrame) -> pd.DataFrame:
    """Average the embeddings of each well over its sites.

    Parameters
    ----------
    predictions
        Sites with ``Metadata_*`` columns and ``Embedding``, as `coda.evaluation.units.read_predictions` gives them.

    Returns
    -------
    pandas.DataFrame
        One row a well, sorted by plate and well: its ``Metadata_*`` columns, ``Metadata_Sites`` (how many were
        averaged), then ``Embedding_000`` and so on, float32.

    Raises
    ------
    UserError
        If an embedding is not finite, as no distance could be measured from it.
    """
    order = predictions.sort_values([*WELL_KEYS, "Metadata_Site"], kind="stable")
    features = np.stack(order["Embedding"].tolist()).astype(np.float64)
    if not np.isfinite(features).all():
        raise UserError(
            "The predictions hold an embedding that is not a finite number; the model that made them is broken."
        )
    _, starts, sites = np.unique(
        order.groupby(WELL_KEYS).ngroup(), return_index=True, return_counts=True
    )
    means = np.add.reduceat(features, starts, axis=0) / sites[:, None]
    metadata = [name for name in order if name.startswith("Metadata_") and name != "Metadata_Site"]
    digits = len(str(features.shape[1] - 1))
    names = [f"{FEATURE}{index:0{digits}d}" for index in range(features.shape[1])]
    wells = order.iloc[starts][metadata].reset_index(drop=True).assign(Metadata_Sites=sites)
    return pd.concat([wells, pd.DataFrame(means.astype(np.float32), columns=names)], axis=1)


def features_of(profiles: pd.DataFrame) -> list[str]:
    """Names of the columns that hold features."""
    return [name for name in profiles.columns if name.startswith(FEATURE)]


def export_profiles(predictions: dict[Path, str], folder: str | Path) -> None:
    """Write the profiles of every file of predictions, a file a plate.

    Parameters
    ----------
    predictions
        Files of one training source and seed, by the folder below `folder` that their profiles go to.
    folder
        Emptied first: a plate that no longer takes part leaves no profiles behind.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for place, path in track(predictions.items(), "export profiles", len(predictions), "files"):
        if "Embedding" not in pq.read_schema(path).names:
            raise UserError(
                f"The predictions {path} have no embeddings; remove the file and predict again."
            )
        sites = read_predictions(path, embeddings=True)
        if "Reason" in sites:  # a method without an answer for a plate has no features of it either
            sites = sites[sites["Reason"].isna()]
        below = Path(folder, place)
        below.mkdir(parents=True)
        for plate, rows in sites.groupby("Metadata_Plate"):
            write_table(well_profiles(rows), below / f"{plate}.parquet")


def read_profiles(folder: str | Path) -> pd.DataFrame:
    """Read the profiles of all plates of a target, in the order of the plates."""
    return pd.concat(
        [read_table(path) for path in sorted(Path(folder).glob("*.parquet"))], ignore_index=True
    )
