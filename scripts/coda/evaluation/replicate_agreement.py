"""How well a method's calls agree between replicates: a choice between methods that needs no label.

Replicates of a compound on different plates show the same biology, so a method that sees it calls them the same
mechanism, and other compounds others. Agreement is no accuracy: a method may be wrong about a compound on every plate
alike; and where plates share one layout, what it reads of a well's position agrees too. It is therefore
compared between methods (`coda.evaluation.recommendation`), never taken as a score.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from coda.columns import WELL_KEYS
from coda.errors import UserError
from coda.evaluation.units import LOGIT, classes_of, usable

COMPOUND = "Metadata_JCP2022"
PERMUTATIONS = 100


class Agreement(NamedTuple):
    """Agreement of calls between replicates on different plates.

    Attributes
    ----------
    information : float
        Mutual information of the calls of two replicates, less that of wells at random, as a share of ``ln(classes)``:
        near 1 where replicates agree and all classes are called alike often, 0 where calls tell nothing of compounds.
    kappa : float
        ``(observed - chance) / (1 - chance)``: 1 where all replicates agree, 0 where they agree no more than wells of
        different compounds do.
    observed, chance : float
        Probability that two wells on different plates are called the same: of one compound, and of two.
    compounds : int
        Compounds with wells on two plates or more.
    """

    information: float
    kappa: float
    observed: float
    chance: float
    compounds: int


def replicate_agreement(predictions: pd.DataFrame) -> Agreement:
    """Measure how well calls agree between replicates of a compound on different plates, beyond chance.

    A well is called the class with the highest mean logit over its sites. For compounds c and d with n(c, p, k) wells
    on plate p that are called k, the probability that two wells on different plates are called the same is

        A(c, d) = sum over p != q and k of n(c, p, k) n(d, q, k) / sum over p != q of n(c, p) n(d, q)

    Observed agreement is the mean of A(c, c) over compounds, chance the mean of A(c, d) over pairs of different
    ones, so each compound counts once, however many wells it has. Kappa is corrected as Scott's pi and
    Krippendorff's alpha are, except that chance, too, is measured between plates: what all wells of a
    plate have in common helps neither. Calls that are all the same tell nothing: their kappa is 0.

    Kappa does not ask how much is agreed on. A method lost on another lab's images often tells two or three groups of
    compounds apart, by something coarse, and does so on every plate. The mutual information of two replicates'
    calls, over their joint distribution P(k, l), the same mean over compounds, grows with both their agreement
    and the classes that they use (Ji et al., "Invariant information clustering", ICCV 2019). Its mean for calls
    that are permuted between the wells of each plate is subtracted, as Vinh et al. (2010) do between clusterings.

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
    counts, (compound, plate, call) = _count_calls(predictions)
    same = _between_plates(counts)
    pairs = _between_plates(counts.sum(axis=2, keepdims=True))
    agreement = np.divide(same, pairs, out=np.full_like(same, np.nan), where=pairs > 0)
    own = np.diagonal(agreement)
    others = agreement[~np.eye(len(counts), dtype=bool)]
    if np.isnan(own).all() or np.isnan(others).all():
        raise UserError(
            "Agreement between replicates needs two compounds or more with wells on two plates or more; "
            "take more plates of the target."
        )
    observed, chance = float(np.nanmean(own)), float(np.nanmean(others))
    kappa = (observed - chance) / (1 - chance) if chance < 1 else 0.0
    information = _information_beyond_chance(counts.shape, compound, plate, call)
    return Agreement(information, kappa, observed, chance, int((~np.isnan(own)).sum()))


def joints_of_compounds(predictions: pd.DataFrame) -> np.ndarray:
    """Give the joint distribution of two replicates' calls by compound, whose mean `replicate_agreement` looks at.

    Returns
    -------
    float64 array, shape (compounds with wells on two plates or more, classes, classes)
    """
    counts, _ = _count_calls(predictions)
    everywhere = counts.sum(axis=1)
    joints = everywhere[:, :, None] * everywhere[:, None]
    joints -= np.einsum("cpk,cpl->ckl", counts, counts, optimize=True)
    pairs = joints.sum(axis=(1, 2))
    return joints[pairs > 0] / pairs[pairs > 0, None, None]


def _count_calls(
    predictions: pd.DataFrame,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Count wells by compound, plate and call; and give these three of each well."""
    wells = _called_wells(predictions)
    compound, compounds = pd.factorize(wells[COMPOUND], sort=True)
    plate, plates = pd.factorize(wells["plate"], sort=True)
    call = wells["call"].to_numpy()
    counts = np.zeros((len(compounds), len(plates), len(classes_of(predictions))))
    np.add.at(counts, (compound, plate, call), 1)
    return counts, (compound, plate, call)


def _called_wells(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a treated well: its plate, compound and call, the number of a class."""
    logits = [LOGIT + name for name in classes_of(predictions)]
    good = usable(predictions)
    keep = good[COMPOUND].notna()
    if "Metadata_pert_type" in good:
        keep &= good["Metadata_pert_type"] != "negcon"
    sites = good[keep].astype(dict.fromkeys(logits, np.float64))
    wells = sites.groupby([*WELL_KEYS, COMPOUND])[logits].mean()
    calls = wells.to_numpy().argmax(axis=1)
    wells = wells.index.to_frame(index=False)
    plates = wells["Metadata_Source"] + "/" + wells["Metadata_Plate"]
    return wells.assign(plate=plates, call=calls)


def _between_plates(counts: np.ndarray) -> np.ndarray:
    """Sum products of counts (compounds, plates, kinds) of two compounds over kinds and pairs of different plates."""
    everywhere = counts.sum(axis=1)
    on_one_plate = np.einsum("cpk,dpk->cd", counts, counts, optimize=True)
    return everywhere @ everywhere.T - on_one_plate


def _information_beyond_chance(
    shape: tuple[int, int, int], compound: np.ndarray, plate: np.ndarray, call: np.ndarray
) -> float:
    """Mutual information of replicates' calls, less its mean over permutations, as a share of ``ln(classes)``.

    Parameters
    ----------
    shape
        Numbers of compounds, plates and classes.
    compound, plate, call : int arrays, shape (wells,)
        What each well holds, where it lies and what it is called.
    """

    def information(calls: np.ndarray) -> float:
        counts = np.zeros(shape)
        np.add.at(counts, (compound, plate, calls), 1)
        return mutual_information(_joint_of_replicates(counts))

    random, chance = np.random.default_rng(0), []
    by_plate = [np.flatnonzero(plate == number) for number in range(shape[1])]
    for _ in range(PERMUTATIONS):
        permuted = call.copy()
        for wells in by_plate:
            permuted[wells] = call[random.permutation(wells)]
        chance.append(information(permuted))
    return float(information(call) - np.mean(chance)) / np.log(max(2, shape[2]))


def _joint_of_replicates(counts: np.ndarray) -> np.ndarray:
    """Give P(k, l), that one of two replicates on different plates is called k and the other l: mean over compounds."""
    everywhere, sizes = counts.sum(axis=1), counts.sum(axis=2)
    pairs = sizes.sum(axis=1) ** 2 - (sizes**2).sum(axis=1)
    weights = np.divide(1.0, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    joint = (weights[:, None] * everywhere).T @ everywhere
    flat = (counts * weights[:, None, None]).reshape(-1, counts.shape[2])
    joint -= flat.T @ counts.reshape(-1, counts.shape[2])
    return joint / (pairs > 0).sum()


def mutual_information(joint: np.ndarray) -> float:
    """Mutual information in nats of a joint distribution (classes, classes)."""
    independent = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    there = joint > 1e-12  # what rounding left of 0 counts as 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())
