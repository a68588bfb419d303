"""Controls without morphology: predictions from channel intensities alone, or from the well's position alone.

A method that is no better than a control has not shown that it reads cells. The predictions have the form of those of
a network and are scored alike.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from coda.columns import TRAIN
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.units import LOGIT, on_subset
from coda.progress import track

INTENSITY = "Intensity_"
BATCH = 16  # crops at once: their deviations in float64 take 130 MB at 448 x 448 in 5 channels


def intensity_features(store: CropStore) -> pd.DataFrame:
    """Mean and standard deviation of every channel of every crop, beside its metadata.

    Returns
    -------
    pandas.DataFrame
        The ``Metadata_*`` columns of the store and its ``Quality_ok``, then ``Intensity_<channel>_mean`` and
        ``_sd`` in grey levels, 0 to 255.
    """
    means, deviations = [], []
    starts = range(0, len(store), BATCH)
    for start in track(starts, "intensities", len(starts), "batches"):
        pixels = store.gather(np.arange(start, min(start + BATCH, len(store))))
        flat = pixels.reshape(*pixels.shape[:2], -1)
        means.append(flat.mean(axis=2, dtype=np.float64))
        deviations.append(flat.std(axis=2, dtype=np.float64))
    values = {}
    for kind, parts in (("mean", means), ("sd", deviations)):
        columns = np.concatenate(parts).T
        values |= {
            f"{INTENSITY}{name}_{kind}": column
            for name, column in zip(store.channels, columns, strict=True)
        }
    known = store.table.filter(regex="^Metadata_|^Quality_ok$")
    return known.reset_index(drop=True).assign(**values)


def intensity_control(
    training: pd.DataFrame, target: pd.DataFrame, plates: pd.DataFrame, classes: list[str]
) -> pd.DataFrame:
    """Predict the mechanism of action from channel means and deviations alone.

    Logistic regression on features standardised by the mean and deviation of their own source, over
    all sites of good quality of its ``train`` plates, labelled or not. This is a simple adaptation to the lab,
    without labels and, as for the methods, without the held-out plate.

    Parameters
    ----------
    training
        `intensity_features` of the training source.
    target
        `intensity_features` of the source to predict, in the order wanted.
    plates
        Metadata_Source, Metadata_Plate and subset; only ``train`` plates of the training source are learned from.
    classes
        Mechanisms of action, in the order of the logits.

    Returns
    -------
    pandas.DataFrame
        ``Metadata_*`` of `target`, ``Logit_<moa>`` (log probabilities, float32) and ``Embedding`` (the features).
    """
    features = [name for name in training.columns if name.startswith(INTENSITY)]
    home, away = _standardised(training, plates, features), _standardised(target, plates, features)
    rows, labels = _learned_from(training, plates, classes)
    model = LogisticRegression(max_iter=5000).fit(home[rows], labels)
    return _as_predictions(target, away, model.predict_log_proba(away), classes)


def position_control(
    training: pd.DataFrame, target: pd.DataFrame, plates: pd.DataFrame, classes: list[str]
) -> pd.DataFrame:
    """Predict the mechanism of action from the well's position alone.

    The prediction is the share of each class at the well on the training plates, with the shares
    over all wells as one further site, so a well never seen gets those. On a single layout it is
    always right: it shows what a model could gain from positions, not that one uses them.

    Parameters
    ----------
    training, target
        Sites with Metadata_Source, Metadata_Plate, Metadata_Well and, in `training`, Metadata_moa.
    plates, classes
        As in `intensity_control`.

    Returns
    -------
    pandas.DataFrame
        As in `intensity_control`; the ``Embedding`` are the shares.
    """
    rows, labels = _learned_from(training, plates, classes)
    wells = training.loc[rows, "Metadata_Well"].to_numpy()
    counts = pd.crosstab(wells, labels).reindex(columns=range(len(classes)))
    overall = counts.sum() / len(labels)
    seen = counts.reindex(target["Metadata_Well"], fill_value=0).to_numpy() + overall.to_numpy()
    shares = seen / seen.sum(axis=1, keepdims=True)
    return _as_predictions(target, shares, np.log(shares), classes)


def _standardised(table: pd.DataFrame, plates: pd.DataFrame, features: list[str]) -> np.ndarray:
    reference = table.loc[_fit_to_train(table, plates), features].to_numpy()
    if not len(reference):
        raise UserError(
            "The intensity control found no site of good quality on a train plate; "
            "select more plates than the held-out one, or widen crops.flags."
        )
    spread = reference.std(axis=0)
    return (table[features].to_numpy() - reference.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _learned_from(
    training: pd.DataFrame, plates: pd.DataFrame, classes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the labelled sites of good quality on train plates, and their classes as indices."""
    rows = _fit_to_train(training, plates) & training["Metadata_moa"].isin(classes).to_numpy()
    labels = pd.Index(classes).get_indexer(training.loc[rows, "Metadata_moa"])
    absent = [name for index, name in enumerate(classes) if index not in set(labels)]
    if absent:
        raise UserError(
            f"The training plates have no site of good quality of {', '.join(absent)}; "
            "lower the share of sites that may be lost, or widen crops.flags."
        )
    return rows, labels


def _fit_to_train(table: pd.DataFrame, plates: pd.DataFrame) -> np.ndarray:
    """Mask of the sites on train plates that no quality flag leaves out."""
    on_plates = on_subset(table, plates, TRAIN)
    return on_plates & table["Quality_ok"].to_numpy(bool) if "Quality_ok" in table else on_plates


def _as_predictions(
    target: pd.DataFrame, features: np.ndarray, logits: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    metadata = target[
        [name for name in target.columns if name.startswith("Metadata_")]
    ].reset_index(drop=True)
    columns = pd.DataFrame(logits.astype(np.float32), columns=[LOGIT + name for name in classes])
    embedding = pd.Series(list(features.astype(np.float32)), name="Embedding")
    return pd.concat([metadata, columns, embedding], axis=1)
