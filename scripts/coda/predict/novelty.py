"""How far wells lie from the training compounds, and whether they differ from the negative controls at all."""

import tempfile

import copairs.map
import numpy as np
import pandas as pd

from coda.evaluation.retrieval import average_precision
from coda.evaluation.well_profiles import features_of

NAME, MOA, COMPOUND = "Metadata_pert_iname", "Metadata_moa", "Metadata_JCP2022"
NULL = 10_000  # random rankings that p values are counted among


def nearest_compounds(
    profiles: pd.DataFrame, compounds: pd.DataFrame, calibration: pd.DataFrame
) -> pd.DataFrame:
    """Find the training compound whose mean embedding is nearest to each well.

    Parameters
    ----------
    profiles
        Well profiles of the target (`coda.evaluation.well_profiles.well_profiles`).
    compounds
        Those of the pack: Metadata_JCP2022, Metadata_pert_iname, Metadata_moa and ``Embedding``.
    calibration
        Well profiles of the training source's held-out plate, by which distances are judged.

    Returns
    -------
    pandas.DataFrame
        For each well ``nearest_compound``, ``nearest_moa``, ``distance`` (one minus the cosine, both less the mean of
        the training compounds) and ``novelty``: the share of the held-out plate's wells that lie nearer to a training
        compound. Near 1, nothing of the training looked like this.
    """
    known = np.stack(compounds["Embedding"].tolist()).astype(np.float64)
    centre = known.mean(axis=0)
    directions = _directions(known - centre)

    def cosines(table: pd.DataFrame) -> np.ndarray:
        return _directions(table[features_of(table)].to_numpy(np.float64) - centre) @ directions.T

    found = cosines(profiles)
    best = found.argmax(axis=1)
    distance = 1 - found[np.arange(len(found)), best]
    usual = np.sort(1 - cosines(calibration).max(axis=1))
    names = compounds[NAME].fillna(compounds[COMPOUND])
    return pd.DataFrame(
        {
            "nearest_compound": names.to_numpy()[best],
            "nearest_moa": compounds[MOA].to_numpy()[best],
            "distance": distance,
            "novelty": np.searchsorted(usual, distance) / len(usual),
        },
        index=profiles.index,
    )


def activity(profiles: pd.DataFrame) -> pd.DataFrame:
    """Tell how well the wells of each compound find each other before the negative controls of their plates.

    Mean average precision, with the p value of its being that high by chance, corrected for the number of compounds
    after Benjamini and Hochberg (Kalinin et al., 2025; by copairs).

    Parameters
    ----------
    profiles
        Well profiles of the target, with ``Metadata_pert_type``.

    Returns
    -------
    pandas.DataFrame
        ``activity`` and ``activity_p`` by compound; empty where there are no controls, or no compound has two wells.
    """
    nothing = pd.DataFrame({"activity": [], "activity_p": []}, index=pd.Index([], name=COMPOUND))
    treated = profiles[profiles["Metadata_pert_type"] != "negcon"]
    controls = profiles[profiles["Metadata_pert_type"] == "negcon"]
    if treated.empty or controls.empty:
        return nothing
    # Controls are no replicates of each other: each stands for itself.
    alone = [f"control {number}" for number in range(len(controls))]
    rows = pd.concat(
        [treated.assign(role="treated"), controls.assign(role="control", **{COMPOUND: alone})]
    )
    rows = rows[rows[COMPOUND].notna()].assign(**{MOA: "any"}).reset_index(drop=True)
    found = average_precision(
        rows,
        pos_sameby=[COMPOUND],
        pos_diffby=[],
        neg_sameby=["Metadata_Plate"],
        neg_diffby=["role"],
    )
    if found is None:
        return nothing
    found = found[found["role"] == "treated"]
    with (
        tempfile.TemporaryDirectory() as scratch
    ):  # of the random rankings; the home folder may not be writable
        scored = copairs.map.mean_average_precision(
            found,
            [COMPOUND],
            null_size=NULL,
            threshold=0.05,
            seed=0,
            progress_bar=False,
            cache_dir=scratch,
        )
    columns = {"mean_average_precision": "activity", "corrected_p_value": "activity_p"}
    return scored.set_index(COMPOUND)[list(columns)].rename(columns=columns)


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
