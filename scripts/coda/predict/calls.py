"""Calls: what mechanism each compound and well shows, how sure that is, and what speaks against it.

A call is never only the most probable mechanism: it comes with calibrated probabilities, the set of mechanisms that fit
at the coverage asked for, and what needs no label: agreement of replicates, activity against the negative controls,
distance to what was trained on. A unit abstains if no mechanism fits, or too many do.
"""

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS, WELL_KEYS
from coda.errors import UserError
from coda.evaluation.units import LOGIT, classes_of, usable
from coda.evaluation.well_profiles import well_profiles
from coda.predict.coverage import Calibration, calibrate, too_large
from coda.predict.novelty import activity, nearest_compounds

COMPOUND, NAME = "Metadata_JCP2022", "Metadata_pert_iname"
RANKS = 3  # mechanisms listed with their probabilities
NOTHING_FITS, TOO_MANY_FIT = "no mechanism fits", "too many mechanisms fit"
NOTHING_SEEN = "no usable site"


def call_mechanisms(
    predictions: pd.DataFrame,
    calibration: pd.DataFrame,
    compounds: pd.DataFrame,
    coverage: float,
    quality: pd.DataFrame | None = None,
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
    quality
        Quality tables of the target's plates: every site that was to be imaged, with ``status`` and ``Quality_Flags``.
        By default the sites that there are predictions of.

    Returns
    -------
    pandas.DataFrame
        Compounds first, the surest first, then all wells by plate, negative controls too. Columns: ``level`` (compound
        or well); Metadata_JCP2022, Metadata_pert_iname, Metadata_pert_type and, for wells, Metadata_Source, _Plate
        and _Well; ``call`` (empty where it abstains) and ``abstains`` (why); ``wells``, ``plates`` and ``sites`` that
        the call is from; ``flagged_sites`` and ``lost_sites`` that it is not from, for their quality or as they brought
        no crop, and ``flags`` (what is wrong with them); ``agreement`` (of compounds: the share of pairs of wells on
        different plates with the same most probable mechanism); ``nearest_compound``, ``nearest_moa``, ``distance``,
        ``novelty`` (of compounds: mean over wells, and the nearest of most of them); ``activity``, ``activity_p``
        (`coda.predict.novelty.activity`); ``moa_1``, ``probability_1`` and so on; ``set`` (mechanisms between ``; ``),
        ``set_size``, ``set_probability`` (that it holds the right one), ``coverage``. Wells without a usable site stay,
        and abstain.

    Raises
    ------
    UserError
        If no well has a usable site.
    """
    classes = classes_of(predictions)
    logits = [LOGIT + name for name in classes]
    good, calibration = usable(predictions), usable(calibration)
    if good.empty:
        raise UserError(
            "No site of the plates has a prediction and is of good quality; see the tables in quality/ and the "
            "section quality of the config."
        )
    profiles = well_profiles(good.drop(columns="Quality_ok", errors="ignore"))
    home = well_profiles(calibration.drop(columns="Quality_ok", errors="ignore"))
    near = nearest_compounds(profiles, compounds, home)
    wells = _mean_logits(good, logits).merge(
        pd.concat([profiles[WELL_KEYS], near], axis=1), on=WELL_KEYS, how="left"
    )
    if quality is None:
        quality = predictions.assign(
            status="ok",
            Quality_Flags=np.where(predictions.get("Quality_ok", True), "", "bad quality"),
        )
    wells = _planned(predictions, quality).merge(wells, on=WELL_KEYS, how="left")
    wells["sites"] = wells["sites"].fillna(0).astype(int)
    wells["wells"] = wells["plates"] = (wells["sites"] > 0).astype(int)
    treated = wells[wells[COMPOUND].notna() & (wells["Metadata_pert_type"] != "negcon")]
    joined = _compounds(treated, logits)
    joined = joined.merge(activity(profiles), left_on=COMPOUND, right_index=True, how="left")
    parts = []
    for level, rows in (("compound", joined), ("well", wells)):
        said = _say(
            rows[logits].to_numpy(np.float64),
            classes,
            calibrate(calibration, level),
            coverage,
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


def _mean_logits(sites: pd.DataFrame, logits: list[str]) -> pd.DataFrame:
    grouped = sites.astype(dict.fromkeys(logits, np.float64)).groupby(WELL_KEYS, sort=True)
    return pd.concat([grouped[logits].mean(), grouped.size().rename("sites")], axis=1).reset_index()


def _planned(predictions: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """All wells that were to be imaged, with what each holds, and the sites that its call is not from."""
    known = [*WELL_KEYS, COMPOUND, NAME, "Metadata_pert_type"]
    wells = pd.concat([quality[known], predictions[known]]).drop_duplicates(WELL_KEYS)
    cropped = quality["status"] == "ok"
    flags = quality["Quality_Flags"].fillna("").where(cropped, "")
    seen = quality[WELL_KEYS].assign(
        flagged_sites=flags.ne("").astype(int), lost_sites=(~cropped).astype(int), flags=flags
    )
    counted = seen.groupby(WELL_KEYS, as_index=False).agg(
        {"flagged_sites": "sum", "lost_sites": "sum", "flags": _together}
    )
    wells = wells.merge(counted, on=WELL_KEYS, how="left").sort_values(WELL_KEYS)
    return wells.fillna({"flagged_sites": 0, "lost_sites": 0, "flags": ""}).astype(
        {"flagged_sites": int, "lost_sites": int}
    )


def _together(flags: pd.Series) -> str:
    """Each flag once, of texts that join several."""
    return "; ".join(sorted({flag for text in flags for flag in text.split("; ") if flag}))


def _compounds(wells: pd.DataFrame, logits: list[str]) -> pd.DataFrame:
    rows = []
    for compound, mine in wells.groupby(COMPOUND, sort=True):
        seen = mine[mine["sites"] > 0]
        best = seen[logits].to_numpy().argmax(axis=1)
        nearest = seen["nearest_compound"].mode().iloc[0] if len(seen) else np.nan
        of_nearest = seen.loc[seen["nearest_compound"] == nearest, "nearest_moa"]
        rows.append(
            {
                COMPOUND: compound,
                NAME: mine[NAME].iloc[0],
                "Metadata_pert_type": mine["Metadata_pert_type"].iloc[0],
                **seen[logits].mean(),
                "wells": len(seen),
                "plates": len(seen[PLATE_KEYS].drop_duplicates()),
                **mine[["sites", "flagged_sites", "lost_sites"]].sum(),
                "flags": _together(mine["flags"]),
                "agreement": _agreement(best, seen[PLATE_KEYS].agg("/".join, axis=1).to_numpy()),
                "nearest_compound": nearest,
                "nearest_moa": of_nearest.iloc[0] if len(seen) else np.nan,
                "distance": seen["distance"].mean(),
                "novelty": seen["novelty"].mean(),
            }
        )
    names = [COMPOUND, NAME, "Metadata_pert_type", *logits]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _agreement(calls: np.ndarray, plates: np.ndarray) -> float:
    """Share of pairs of wells on different plates that are called the same; NaN with one plate."""
    apart = plates[:, None] != plates[None, :]
    return float((calls[:, None] == calls[None, :])[apart].mean()) if apart.any() else np.nan


def _say(
    logits: np.ndarray, classes: list[str], calibration: Calibration, coverage: float
) -> pd.DataFrame:
    """Rank the mechanisms of each unit, and say which of them fit."""
    seen = np.isfinite(logits).all(axis=1)
    probabilities = calibration.probabilities(np.where(seen[:, None], logits, 0.0))
    inside = calibration.sets(probabilities, coverage) & seen[:, None]
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sizes, names = inside.sum(axis=1), np.array(classes, dtype=object)
    abstains = np.select(
        [~seen, sizes == 0, too_large(inside)],
        [NOTHING_SEEN, NOTHING_FITS, TOO_MANY_FIT],
        "",
    )
    columns = {
        "call": np.where(abstains == "", names[order[:, 0]], ""),
        "abstains": abstains,
    }
    for rank in range(min(RANKS, len(classes))):
        ranked = probabilities[np.arange(len(order)), order[:, rank]]
        columns[f"moa_{rank + 1}"] = np.where(seen, names[order[:, rank]], "")
        columns[f"probability_{rank + 1}"] = np.where(seen, ranked, np.nan)
    columns["set"] = [
        "; ".join(names[index] for index in ranked if chosen[index])
        for ranked, chosen in zip(order, inside, strict=True)
    ]
    columns["set_size"] = sizes
    columns["set_probability"] = np.where(seen, (probabilities * inside).sum(axis=1), np.nan)
    return pd.DataFrame(columns).assign(coverage=coverage)
