"""Which method to use on a target, chosen without its labels.

Accuracy on a lab's own plates cannot be known without labels. Two things can be: whether replicates of a compound on
different plates are called the same (`coda.evaluation.replicate_agreement`), and whether the negative controls, which
hold the same cells in every lab, are called as those of the training source are. A method that leaves the controls
further away than they were has not undone a shift between labs; of the others, the one is chosen whose calls agree
most. docs/method-choice.md shows how well that foretells accuracy. What it cannot see is a compound that is called
wrongly on every plate alike.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from coda.columns import WELL_KEYS
from coda.errors import UserError
from coda.evaluation.replicate_agreement import (
    COMPOUND,
    joints_of_compounds,
    mutual_information,
    replicate_agreement,
)
from coda.evaluation.units import LOGIT, classes_of, has_predictions, probabilities_of
from coda.files import read_table

RESAMPLINGS = 200
STARTING = "unadapted"


def compare_methods(
    tables: Mapping[str, pd.DataFrame],
    home: pd.DataFrame,
    networks: Mapping[str, tuple[str, pd.DataFrame]] = MappingProxyType({}),
) -> pd.DataFrame:
    """Measure of each method what may be known of it without labels, on one target.

    Methods are compared on the sites for which all of them have predictions; one that has none is left out.

    Parameters
    ----------
    tables
        Predictions of each method, of the same plates. One of them is ``"unadapted"``.
    home
        Predictions of the unadapted method on the held-out plate of the training source.
    networks
        Of methods that read another network: the name of the method that reads it as it is, and its predictions on
        that plate.

    Returns
    -------
    DataFrame
        One row a method: ``method``, ``agreement`` (`coda.evaluation.replicate_agreement.Agreement.information`),
        ``control_distance`` (`control_distance`), ``confidence`` (share of resamplings of the compounds in which it
        would be chosen), ``control_limit`` (the distance that the controls had by the same network as it is) and
        ``reason`` (why one of these is empty).

    Raises
    ------
    UserError
        If the tables are not of the same sites in the same order.
    """
    keys = [*WELL_KEYS, "Metadata_Site", COMPOUND]
    sites = next(iter(tables.values()))[keys].reset_index(drop=True)
    known = np.ones(len(sites), bool)
    tables = {name: table for name, table in tables.items() if has_predictions(table).any()}
    for name, table in tables.items():
        if not table[keys].reset_index(drop=True).equals(sites):
            raise UserError(
                f"The predictions of {name} are not of the same sites as the others'; predict again."
            )
        known &= has_predictions(table)
    tables = {name: table[known] for name, table in tables.items()}
    rows = pd.DataFrame({"method": list(tables)})
    reasons = []
    try:
        rows["agreement"] = [replicate_agreement(table).information for table in tables.values()]
    except UserError as error:
        rows["agreement"] = np.nan
        reasons.append(str(error))
    starts, homes = zip(*(networks.get(name, (STARTING, home)) for name in tables), strict=True)
    rows["control_distance"] = list(map(control_distance, tables.values(), homes))
    distance = rows.set_index("method")["control_distance"]
    rows["control_limit"] = distance.reindex(starts).to_numpy()
    if rows["control_distance"].isna().any():
        reasons.append("There are no negative controls with predictions in both sources.")
    rows["confidence"] = _confidence(rows, tables)
    return rows.assign(reason=" ".join(reasons) or None)


def control_distance(predictions: pd.DataFrame, home: pd.DataFrame) -> float:
    """Jensen-Shannon divergence between the mean probabilities of the controls' classes in two sources, 0 to 1.

    NaN where one of them has no controls.
    """
    names = [LOGIT + name for name in classes_of(home)]
    means = []
    for table in (predictions, home):
        controls = table[(table["Metadata_pert_type"] == "negcon") & has_predictions(table)]
        if controls.empty:
            return np.nan
        means.append(probabilities_of(controls[names].to_numpy(np.float64)).mean(axis=0))
    return divergence(*means)


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions over classes, in bits: 0 to 1 (Lin 1991).

    A class without probability adds nothing. Both are doubled and compared with their sum, half of which could be 0.
    """
    nats = [rel_entr(2 * each, one + other).sum() / 2 for each in (one, other)]
    return float(np.mean(nats) / np.log(2))


def choose(compared: pd.DataFrame) -> str | None:
    """Name the method to use: of those whose controls are not further away than unadapted, the most agreeing one.

    `compared` is that of `compare_methods`, or its mean over training runs. None where replicates cannot be compared.
    """
    allowed = compared[_near_enough(compared)].dropna(subset="agreement")
    return None if allowed.empty else allowed["method"][allowed["agreement"].idxmax()]


def _near_enough(compared: pd.DataFrame) -> np.ndarray:
    unknown = compared["control_limit"].isna()
    return (unknown | (compared["control_distance"] <= compared["control_limit"])).to_numpy()


def _confidence(compared: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Share of resamplings of the compounds in which each method agrees most of those that are near enough."""
    if compared["agreement"].isna().any():
        return np.full(len(compared), np.nan)
    joints = [joints_of_compounds(table) for table in tables.values()]
    allowed, random = np.flatnonzero(_near_enough(compared)), np.random.default_rng(0)
    chosen = np.zeros(len(compared))
    for _ in range(RESAMPLINGS):
        drawn = random.integers(len(joints[0]), size=len(joints[0]))
        found = [mutual_information(joints[number][drawn].mean(axis=0)) for number in allowed]
        chosen[allowed[np.argmax(found)]] += 1
    return chosen / RESAMPLINGS


def recommendations(compared: pd.DataFrame) -> pd.DataFrame:
    """Average over training runs, and mark the method to use for each pair of sources.

    Parameters
    ----------
    compared
        Rows of `compare_methods` with train_source, target_source and seed.

    Returns
    -------
    DataFrame
        train_source, target_source, method, agreement, control_distance, control_limit, confidence, seeds, chosen
        and reason.
    """
    pair, values = (
        ["train_source", "target_source"],
        ["agreement", "control_distance", "control_limit", "confidence"],
    )
    grouped = compared.groupby([*pair, "method"], sort=False)
    means = grouped[values].mean().join(grouped.size().rename("seeds")).reset_index()
    reasons = compared.groupby(pair, sort=False)["reason"].first()
    parts = [
        part.assign(chosen=part["method"] == choose(part), reason=reasons[key])
        for key, part in means.groupby(pair, sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def read_recommendations(path: str | Path) -> pd.DataFrame:
    """Read the table of `recommendations` back from CSV, numbers as numbers and marks as marks."""
    table = read_table(path)
    numbers = dict.fromkeys(("agreement", "control_distance", "control_limit", "confidence"), float)
    return table.assign(chosen=table["chosen"] == "True").astype(numbers | {"seeds": int})
