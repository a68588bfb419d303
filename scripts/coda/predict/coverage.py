"""Probabilities that mean what they say, and sets of mechanisms with a stated coverage.

Both are learned on the training source's held-out plate: a temperature that the logits are divided by (Guo et al.,
ICML 2017), and by split conformal prediction (Vovk et al. 2005; Sadinle, Lei and Wasserman, JASA 2019) how improbable a
mechanism may be and still belong to the set. The set of a unit like those of that plate holds the right mechanism
with the stated probability, whatever the network is worth. Plates of another lab are not like that plate: what
harmonisation and adaptation leave of the shift is missing in coverage.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from coda.errors import UserError
from coda.evaluation.units import classes_of, units

FOLDS = 5
# From this share of the classes on, a set says less than it leaves out.
LARGE = 0.5
# Temperatures tried: logits that mean nothing are not to be sharpened or flattened without end.
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Calibration:
    """What the held-out plate of the training source tells of probabilities at one level.

    Attributes
    ----------
    temperature : float
        What logits are divided by.
    scores : float64 array, shape (N,), ascending
        One minus the probability of the right mechanism of each labelled unit, by temperatures that this unit and
        others of its compound had no part in.
    """

    temperature: float
    scores: np.ndarray

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, classes) of mean logits."""
        return softmax(logits / self.temperature, axis=1)

    def threshold(self, coverage: float) -> float:
        """Give the least probability of a member of the sets; 0 where there are too few units for the coverage.

        The k-th smallest score, k = ceil((n + 1) coverage), of n units: with another unit like them, all n + 1 ranks
        of its score are equally likely.
        """
        rank = int(np.ceil((len(self.scores) + 1) * coverage))
        return 1 - float(self.scores[rank - 1]) if rank <= len(self.scores) else 0.0

    def sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Mark the mechanisms in the set of each unit: bool (N, classes)."""
        return probabilities >= self.threshold(coverage) - 1e-12


def calibrate(predictions: pd.DataFrame, level: str) -> Calibration:
    """Calibrate on labelled predictions of a plate that trained nothing.

    Parameters
    ----------
    predictions
        Sites with ``Metadata_*`` and ``Logit_<moa>`` columns.
    level
        ``"well"`` or ``"compound"``.

    Raises
    ------
    UserError
        If no site is labelled.
    """
    if not predictions["Metadata_moa"].notna().any():
        raise UserError("The plate to calibrate on has no labelled well; make the pack again.")
    known = units(predictions, classes_of(predictions), level)
    logits, scores = known.logits, np.empty(len(known))
    fold = deal(known.compounds)
    for number in np.unique(fold):
        others, mine = fold != number, fold == number
        fitted = fit_temperature(logits[others], known.labels[others]) if others.any() else 1.0
        right = softmax(logits[mine] / fitted, axis=1)[np.arange(mine.sum()), known.labels[mine]]
        scores[mine] = 1 - right
    return Calibration(fit_temperature(logits, known.labels), np.sort(scores))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature under which the labels are most likely.

    Parameters
    ----------
    logits
        (N, classes).
    labels
        (N,) right classes.
    """

    def loss(log_temperature: float) -> float:
        fitted = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(fitted[np.arange(len(labels)), labels].mean())

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def deal(compounds: np.ndarray) -> np.ndarray:
    """Deal compounds out to folds, so that all units of one lie in the same: the fold of each unit, from 0."""
    numbers, names = pd.factorize(compounds, sort=True)
    dealt = np.random.default_rng(0).permutation(len(names)) % min(FOLDS, len(names))
    return dealt[numbers]


def too_large(inside: np.ndarray) -> np.ndarray:
    """Mark the units whose sets, bool (N, classes), hold more than half of the mechanisms, and more than one."""
    return inside.sum(axis=1) > max(1, LARGE * inside.shape[1])
