"""How well a method's calls agree between replicates: a choice between methods that needs no label.

Replicates of a compound on different plates show the same biology, so a method that sees it calls them the same
mechanism. Agreement is no accuracy: a method may be wrong about a compound on every plate alike; and where plates share
one layout, what it reads of a well's position agrees too. It is therefore compared between methods, never taken
as a score.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS, WELL_KEYS
from coda.errors import UserError
from coda.evaluation.units import LOGIT, classes_of

COMPOUND = "Metadata_JCP2022"


class Agreement(NamedTuple):
    """Agreement of calls between replicates on different plates.

    Attributes
    ----------
    value : float
        ``(observed - chance) / (1 - chance)``: 1 where all replicates agree, 0 where they agree no more than wells of
        different compounds do.
    observed, chance : float
        Probability that two wells on different plates are called the same: of one compound, and of two.
    compounds : int
        Compounds with wells on two plates or more.
    """

    value: float
    observed: float
    chance: float
    compounds: int


def replicate_agreement(predictions: pd.DataFrame) -> Agreement:
    """Measure how well calls agree between replicates of a compound on different plates, corrected for chance.

    A well is called the class with the highest mean logit over its sites. For compounds c and d with n(c, p, k) wells
    on plate p that are called k, the probability that two wells on different plates are called the same is

        A(c, d) = sum over p != q and k of n(c, p, k) n(d, q, k) / sum over p != q of n(c, p) n(d, q)

    Observed agreement is the mean of A(c, c) over compounds, chance the mean of A(c, d) over pairs of different
    ones, so each compound counts once, however many wells it has. The value is corrected as Scott's pi and
    Krippendorff's alpha are, except that chance, too, is measured between plates: what all wells of a
    plate have in common helps neither. Calls that are all the same tell nothing: their value is 0.

    Parameters
    ----------
    predictions
        Sites with ``Metadata_*`` and ``Logit_<moa>`` columns; Metadata_moa is not looked at. Negative controls, sites
        flagged as of bad quality, and those without predictions are left out.

    Raises
    ------
    UserError
        If no compound has wells on two plates, or there is but one compound.
    """
    wells = _called_wells(predictions)
    compound, compounds = pd.factorize(wells[COMPOUND], sort=True)
    plate, plates = pd.factorize(wells["plate"], sort=True)
    counts = np.zeros((len(compounds), len(plates), len(classes_of(predictions))))
    np.add.at(counts, (compound, plate, wells["call"].to_numpy()), 1)
    same = _between_plates(counts)
    pairs = _between_plates(counts.sum(axis=2, keepdims=True))
    agreement = np.divide(same, pairs, out=np.full_like(same, np.nan), where=pairs > 0)
    own = np.diagonal(agreement)
    others = agreement[~np.eye(len(compounds), dtype=bool)]
    if np.isnan(own).all() or np.isnan(others).all():
        raise UserError(
            "Agreement between replicates needs two compounds or more with wells on two plates or more; "
            "take more plates of the target."
        )
    observed, chance = float(np.nanmean(own)), float(np.nanmean(others))
    value = (observed - chance) / (1 - chance) if chance < 1 else 0.0
    return Agreement(value, observed, chance, int((~np.isnan(own)).sum()))


def choose_by_agreement(tables: Mapping[str, pd.DataFrame]) -> tuple[str, pd.DataFrame]:
    """Choose the method whose calls agree best between replicates on different plates.

    Methods are compared on the sites for which all of them have predictions.

    Parameters
    ----------
    tables
        Predictions of each method, of the same plates; see `replicate_agreement`. Of methods that agree alike the first
        one is chosen: put first what departs least from the pipeline as trained.

    Returns
    -------
    str
        The name of the method.
    DataFrame
        One row a method, in the given order: ``method``, then ``value``, ``observed``, ``chance`` and ``compounds`` of
        its `Agreement`.

    Raises
    ------
    UserError
        If the tables are not of the same sites in the same order, or have no replicates on different plates.
    """
    keys = [*WELL_KEYS, "Metadata_Site", COMPOUND]
    first = next(iter(tables.values()))[keys].reset_index(drop=True)
    known = np.ones(len(first), bool)
    for name, table in tables.items():
        if not table[keys].reset_index(drop=True).equals(first):
            raise UserError(
                f"The predictions of {name} are not of the same sites as the others'; predict again."
            )
        known &= _has_predictions(table)
    rows = [
        {"method": name} | replicate_agreement(table[known])._asdict()
        for name, table in tables.items()
    ]
    scores = pd.DataFrame(rows)
    return scores["method"][scores["value"].idxmax()], scores


def _called_wells(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a treated well: its plate, compound and call, the number of a class."""
    logits = [LOGIT + name for name in classes_of(predictions)]
    keep = predictions[COMPOUND].notna().to_numpy() & _has_predictions(predictions)
    if "Metadata_pert_type" in predictions:
        keep &= (predictions["Metadata_pert_type"] != "negcon").to_numpy()
    if "Quality_ok" in predictions:
        keep &= predictions["Quality_ok"].to_numpy(bool)
    sites = predictions[keep].astype(dict.fromkeys(logits, np.float64))
    wells = sites.groupby([*WELL_KEYS, COMPOUND])[logits].mean()
    calls = wells.to_numpy().argmax(axis=1)
    wells = wells.index.to_frame(index=False)
    return wells.assign(plate=wells[PLATE_KEYS].agg("/".join, axis=1), call=calls)


def _has_predictions(table: pd.DataFrame) -> np.ndarray:
    return np.isfinite(table[[LOGIT + name for name in classes_of(table)]].to_numpy()).all(axis=1)


def _between_plates(counts: np.ndarray) -> np.ndarray:
    """Sum products of counts (compounds, plates, kinds) of two compounds over kinds and pairs of different plates."""
    everywhere = counts.sum(axis=1)
    on_one_plate = np.einsum("cpk,dpk->cd", counts, counts, optimize=True)
    return everywhere @ everywhere.T - on_one_plate
