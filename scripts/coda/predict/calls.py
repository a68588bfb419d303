"""Calls: what mechanism each compound and well shows, how sure that is, and what speaks against it.

A call is never only the most probable mechanism: it comes with calibrated probabilities, the set of mechanisms that fit
at the coverage asked for, and what needs no label: agreement of replicates, activity against the negative controls,
distance to what was trained on. A unit abstains if no mechanism fits, or too many do.
"""

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS, WELL_KEYS
from coda.evaluation.units import LOGIT, classes_of
from coda.evaluation.well_profiles import well_profiles
from coda.predict.coverage import Calibration, calibrate
from coda.predict.novelty import activity, nearest_compounds

COMPOUND, NAME = "Metadata_JCP2022", "Metadata_pert_iname"
RANKS = 3  # mechanisms listed with their probabilities
NOTHING_FITS, TOO_MANY_FIT = "no mechanism fits", "too many mechanisms fit"
# From this share of the classes on, a set says less than it leaves out.
LARGE = 0.5


def call_mechanisms(
    predictions: pd.DataFrame,
    calibration: pd.DataFrame,
    compounds: pd.DataFrame,
    coverage: float,
) -> pd.DataFrame:
    """Call the mechanism of every compound and of every well of a target.

    Parameters
    ----------
    predictions
        Sites of the target by one method: ``Metadata_*``, ``Quality_ok``, ``Logit_<moa>``, ``Embedding``. A
        Metadata_moa is not looked at.
    calibration
        The same for the held-out plate of the training source, with its labels.
    compounds
        Training compounds of the pack, with their mean embeddings.
    coverage
        Share of sets that shall hold the right mechanism, on plates like the calibration's.

    Returns
    -------
    pandas.DataFrame
        Compounds first, the surest first, then all wells by plate, negative controls too. Columns: ``level`` (compound
        or well); Metadata_JCP2022, Metadata_pert_iname, Metadata_pert_type and, for wells, Metadata_Source, _Plate
        and _Well; ``call`` (empty where it abstains) and ``abstains`` (why); ``wells``, ``plates``, ``sites``,
        ``flagged_sites``; ``agreement`` (of compounds: the share of pairs of wells on different plates with the same
        most probable mechanism); ``nearest_compound``, ``nearest_moa``, ``distance``, ``novelty`` (of compounds: mean
        over wells, and the nearest of most of them); ``activity``, ``activity_p`` (`coda.predict.novelty.activity`);
        ``moa_1``, ``probability_1`` and so on; ``set`` (mechanisms joined by ``; ``), ``set_size``, ``coverage``.
    """
    classes = classes_of(predictions)
    logits = [LOGIT + name for name in classes]
    good = _usable(predictions, logits)
    wells = _wells(good, logits)
    profiles = well_profiles(good.drop(columns="Quality_ok", errors="ignore"))
    home = well_profiles(_usable(calibration, logits).drop(columns="Quality_ok", errors="ignore"))
    near = nearest_compounds(profiles, compounds, home)
    wells = wells.merge(pd.concat([profiles[WELL_KEYS], near], axis=1), on=WELL_KEYS, how="left")
    flagged = _counts(predictions) - _counts(good)
    wells["flagged_sites"] = [
        flagged.get(key, 0) for key in wells[WELL_KEYS].itertuples(index=False, name=None)
    ]
    treated = wells[wells[COMPOUND].notna() & (wells["Metadata_pert_type"] != "negcon")]
    joined = _compounds(treated, logits)
    joined = joined.merge(activity(profiles), left_on=COMPOUND, right_index=True, how="left")
    parts = []
    for level, rows in (("compound", joined), ("well", wells)):
        said = _say(
            rows[logits].to_numpy(np.float64), classes, calibrate(calibration, level), coverage
        )
        parts.append(
            pd.concat([rows.drop(columns=logits).reset_index(drop=True), said], axis=1).assign(
                level=level
            )
        )
    parts[0] = parts[0].sort_values("probability_1", ascending=False, kind="stable")
    table = pd.concat(parts, ignore_index=True)
    first = ["level", COMPOUND, NAME, "Metadata_pert_type", *WELL_KEYS, "call", "abstains"]
    return table[[*first, *(name for name in table if name not in first)]]


def _usable(predictions: pd.DataFrame, logits: list[str]) -> pd.DataFrame:
    """Sites of good quality that a method has predictions for."""
    keep = np.isfinite(predictions[logits].to_numpy()).all(axis=1)
    if "Quality_ok" in predictions:
        keep = keep & predictions["Quality_ok"].to_numpy(bool)
    return predictions[keep]


def _wells(sites: pd.DataFrame, logits: list[str]) -> pd.DataFrame:
    known = [COMPOUND, NAME, "Metadata_pert_type"]
    known = [name for name in known if name in sites]
    grouped = sites.astype(dict.fromkeys(logits, np.float64)).groupby(WELL_KEYS, sort=True)
    wells = pd.concat(
        [grouped[known].first(), grouped[logits].mean(), grouped.size().rename("sites")], axis=1
    )
    return wells.reset_index().assign(wells=1, plates=1)


def _counts(sites: pd.DataFrame) -> pd.Series:
    return sites.groupby(WELL_KEYS).size()


def _compounds(wells: pd.DataFrame, logits: list[str]) -> pd.DataFrame:
    rows = []
    for compound, mine in wells.groupby(COMPOUND, sort=True):
        best = mine[logits].to_numpy().argmax(axis=1)
        nearest = mine["nearest_compound"].mode().iloc[0]
        rows.append(
            {
                COMPOUND: compound,
                NAME: mine[NAME].iloc[0],
                "Metadata_pert_type": mine["Metadata_pert_type"].iloc[0],
                **mine[logits].mean(),
                "wells": len(mine),
                "plates": len(mine[PLATE_KEYS].drop_duplicates()),
                "sites": mine["sites"].sum(),
                "flagged_sites": mine["flagged_sites"].sum(),
                "agreement": _agreement(best, mine[PLATE_KEYS].agg("/".join, axis=1).to_numpy()),
                "nearest_compound": nearest,
                "nearest_moa": mine.loc[mine["nearest_compound"] == nearest, "nearest_moa"].iloc[0],
                "distance": mine["distance"].mean(),
                "novelty": mine["novelty"].mean(),
            }
        )
    return pd.DataFrame(rows)


def _agreement(calls: np.ndarray, plates: np.ndarray) -> float:
    """Share of pairs of wells on different plates that are called the same; NaN with one plate."""
    apart = plates[:, None] != plates[None, :]
    return float((calls[:, None] == calls[None, :])[apart].mean()) if apart.any() else np.nan


def _say(
    logits: np.ndarray, classes: list[str], calibration: Calibration, coverage: float
) -> pd.DataFrame:
    """Rank the mechanisms of each unit, and say which of them fit."""
    probabilities = calibration.probabilities(logits)
    inside = calibration.sets(probabilities, coverage)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sizes, names = inside.sum(axis=1), np.array(classes, dtype=object)
    abstains = np.where(
        sizes == 0, NOTHING_FITS, np.where(sizes > max(1, LARGE * len(classes)), TOO_MANY_FIT, "")
    )
    columns = {
        "call": np.where(abstains == "", names[order[:, 0]], ""),
        "abstains": abstains,
    }
    for rank in range(min(RANKS, len(classes))):
        columns[f"moa_{rank + 1}"] = names[order[:, rank]]
        columns[f"probability_{rank + 1}"] = probabilities[np.arange(len(order)), order[:, rank]]
    columns["set"] = [
        "; ".join(names[index] for index in ranked if chosen[index])
        for ranked, chosen in zip(order, inside, strict=True)
    ]
    return pd.DataFrame(columns | {"set_size": sizes, "coverage": coverage})
