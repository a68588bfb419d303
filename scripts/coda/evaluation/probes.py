"""Probes: simple classifiers on embeddings, in place of the task model, with or without sphering.

They are trained on embeddings of the training source's labelled sites by the foundation of step 1, and applied to the
target's embeddings by the same foundation or an adapted one.

Sphering (the first step of typical variation normalisation, Ando, McLean and Berndl, bioRxiv 161422, 2017) makes the
negative controls of each plate have mean 0 and covariance 1, so that what varies without any treatment
weighs the same everywhere. It needs only wells that every plate has, whatever else stands on it.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coda.columns import PLATE_KEYS
from coda.errors import UserError
from coda.evaluation.units import LOGIT
from coda.training.alignment import reference_sites
from coda.training.knn import knn_logits
from coda.training.site_selection import class_names, labelled_rows

# DMSO sites of a plate. The shrinkage is estimated from the very sites that are few: with 2 it is none at all, and in
# simulated plates (384 dimensions, independent sites) other DMSO sites came out 9.6 times as wide as those sphered on
# with 6, 3.3 times with 12, 2.4 times with 16 and 1.7 times with 24 (2.2 times where these are 3 each of 8 wells).
FEWEST = 16
# A smaller eigenvalue of the shrunk correlations, whose mean is 1, is rounding: those sites span too little.
SMALLEST = 1e-6


def predict_probe(
    training: pd.DataFrame, target: pd.DataFrame, probe: str, sphered: bool, knn: dict[str, Any]
) -> pd.DataFrame:
    """Predict the mechanism of action from embeddings.

    Parameters
    ----------
    training
        Sites of the training plates: ``Metadata_*``, ``Quality_ok`` and ``Embedding``.
    target
        Sites to predict, in the order wanted, with the same columns; others are left out.
    probe
        ``"knn"`` or ``"linear"``.
    sphered
        Whether embeddings are sphered on the DMSO wells of their plate first.
    knn
        Section of the config: k and temperature.

    Returns
    -------
    pandas.DataFrame
        ``Metadata_*`` of `target`, ``Logit_<moa>`` (log probabilities, float32) and ``Embedding``. Where a
        plate cannot be sphered these are NaN, and a column ``Reason`` says why; so are all where the training
        plates that can be sphered do not show every class.

    Raises
    ------
    UserError
        If the training plates, sphered or not, have no labelled site of good quality of a class.
    """
    home, away = (sphere(table) if sphered else _stacked(table) for table in (training, target))
    classes = class_names([training])
    rows, labels = labelled_rows(training, classes)
    absent = [name for number, name in enumerate(classes) if number not in set(labels)]
    if absent or not classes:
        raise UserError(
            f"The training plates have no site to learn {', '.join(absent) or 'from'}; "
            "leave the probes out of methods."
        )
    usable = np.isfinite(home[rows]).all(axis=1)
    rows, labels = rows[usable], labels[usable]
    learned = len(set(labels)) == len(classes)
    answered = np.isfinite(away).all(axis=1) & learned
    away[~answered] = np.nan
    logits = np.full((len(target), len(classes)), np.nan)
    if answered.any():
        known, asked = home[rows], away[answered]
        logits[answered] = (
            _nearest(known, labels, asked, **knn)
            if probe == "knn"
            else _linear(known, labels, asked)
        )
    table = target.filter(regex="^Metadata_").reset_index(drop=True)
    columns = pd.DataFrame(logits.astype(np.float32), columns=[LOGIT + name for name in classes])
    table = pd.concat([table, columns], axis=1).assign(Embedding=list(away.astype(np.float32)))
    if not answered.all():
        who = "plate " + table["Metadata_Plate"] + " has" if learned else "the training plates have"
        table["Reason"] = (
            who + f" too few DMSO sites of good quality to sphere by (fewest: {FEWEST})"
        )
        table.loc[answered, "Reason"] = None
    return table


def sphere(table: pd.DataFrame) -> np.ndarray:
    """Sphere the embeddings of each plate on its DMSO wells.

    Each dimension is divided by its deviation over the DMSO sites, then their correlations are undone by the
    symmetric root (ZCA-cor, Kessy, Lewin and Strimmer 2018), which keeps the axes and so leaves plates
    comparable. The correlations are shrunk towards none by as much as Ledoit and Wolf's formula says: a plate
    has fewer DMSO sites than an embedding has dimensions, so the plain matrix has no inverse, and a small fixed
    regularisation would blow up the directions in which no DMSO site happened to vary. The shrinkage follows
    from the data, so there is nothing to set; it can be relied on from some number of sites on, `FEWEST`.

    Returns
    -------
    float64 array, shape (sites, width)
        NaN on plates with fewer than `FEWEST` DMSO sites of good quality, or whose DMSO sites are alike.
    """
    embedding = _stacked(table)
    sphered = np.full_like(embedding, np.nan)
    for rows in table.reset_index(drop=True).groupby(PLATE_KEYS, sort=False).indices.values():
        reference = embedding[rows[reference_sites(table.iloc[rows], "dmso")]]
        if len(reference) < FEWEST:
            continue
        mean, spread = reference.mean(axis=0), reference.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        values, vectors = np.linalg.eigh(ledoit_wolf((reference - mean) / spread)[0])
        if values.min() > SMALLEST:
            root = (vectors / np.sqrt(values)) @ vectors.T
            sphered[rows] = (embedding[rows] - mean) / spread @ root
    return sphered


def _stacked(table: pd.DataFrame) -> np.ndarray:
    return np.stack(table["Embedding"].to_list()).astype(np.float64)


def _linear(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Log probabilities of a logistic regression on standardised features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    return model.fit(known, labels).predict_log_proba(asked)


def _nearest(
    known: np.ndarray, labels: np.ndarray, asked: np.ndarray, k: int, temperature: float
) -> np.ndarray:
    """Log shares of the votes, with one more neighbour shared by all classes so that no share is zero."""
    bank, queries = torch.from_numpy(known), torch.from_numpy(asked)
    numbers = torch.from_numpy(labels)
    classes = int(labels.max()) + 1
    parts = [
        knn_logits(bank, numbers, part, classes, k, temperature) for part in queries.split(1024)
    ]
    votes = torch.cat(parts).numpy()
    shares = votes / votes.sum(axis=1, keepdims=True)
    neighbours = min(k, len(known))
    return np.log((shares * neighbours + 1 / classes) / (neighbours + 1))
