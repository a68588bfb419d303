"""Units of scoring: images, wells or compounds, gathered from predictions of sites."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from coda.columns import ADAPTED, HELD_OUT, PLATE_KEYS, SITE_KEYS, TRAIN, VALIDATION, WELL_KEYS
from coda.errors import UserError
from coda.files import read_table

LOGIT = "Logit_"
LEVELS = ("image", "well", "compound")


@dataclass
class Units:
    """Units at one level, ordered by class, then by what is resampled.

    Attributes
    ----------
    classes : list of str
        Mechanisms of action, in the order of the logits.
    labels : numpy.ndarray
        True class of each unit, as an index into `classes`, shape (N,), ascending.
    probabilities : numpy.ndarray
        Softmax of the logits, float64, shape (N, C).
    groups : numpy.ndarray
        For each unit the row of `resampled` it belongs to, shape (N,), ascending.
    resampled : pandas.DataFrame
        What the bootstrap draws, one row each: columns ``stratum``, ``name`` and ``label``.
    compounds : numpy.ndarray
        Compound of each unit, shape (N,): what the tests draw.
    """

    classes: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    resampled: pd.DataFrame
    compounds: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def logits(self) -> np.ndarray:
        """Logarithms of the probabilities, all finite, shape (N, C)."""
        return np.log(np.maximum(self.probabilities, np.finfo(np.float64).tiny))


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in the precision of `logits`."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Mechanisms of action that a table of predictions has logits for, sorted."""
    return sorted(
        name.removeprefix(LOGIT) for name in predictions.columns if name.startswith(LOGIT)
    )


def has_predictions(predictions: pd.DataFrame) -> np.ndarray:
    """Mark the rows with finite logits."""
    logits = [LOGIT + name for name in classes_of(predictions)]
    return np.isfinite(predictions[logits].to_numpy()).all(axis=1)


def usable(predictions: pd.DataFrame) -> pd.DataFrame:
    """Sites of good quality that a method has predictions for."""
    keep = has_predictions(predictions)
    if "Quality_ok" in predictions:
        keep = keep & predictions["Quality_ok"].to_numpy(bool)
    return predictions[keep]


def read_predictions(path: str | Path, embeddings: bool = False) -> pd.DataFrame:
    """Read a file of predictions, by default without the embeddings, which are most of its bytes.

    Where crops are single cells, the rows of a site are averaged: an image is one prediction.

    Raises
    ------
    UserError
        If the file is missing or unreadable, or lacks a needed column.
    """
    try:
        names = pq.read_schema(path).names
    except (OSError, ValueError) as error:
        raise UserError(f"The predictions {path} cannot be read: {error}") from error
    table = read_table(path, [name for name in names if embeddings or name != "Embedding"])
    missing = {*SITE_KEYS, "Metadata_JCP2022", "Metadata_moa"} - set(names)
    if missing or not classes_of(table):
        lacking = ", ".join(sorted(missing)) or f"{LOGIT}<moa>"
        raise UserError(
            f"The predictions {path} lack the column(s) {lacking}; remove the file and predict again."
        )
    return _one_row_a_site(table) if table.duplicated(SITE_KEYS).any() else table


def _one_row_a_site(table: pd.DataFrame) -> pd.DataFrame:
    logits = [LOGIT + name for name in classes_of(table)]
    grouped = table.astype(dict.fromkeys(logits, np.float64)).groupby(SITE_KEYS, sort=False)
    metadata = [name for name in table if name.startswith("Metadata_") or name == "Reason"]
    sites = (
        table.drop_duplicates(SITE_KEYS)[metadata].set_index(SITE_KEYS).join(grouped[logits].mean())
    )
    if "Embedding" in table:
        sites["Embedding"] = grouped["Embedding"].agg(
            lambda cells: np.mean(np.stack(list(cells)), axis=0)
        )
    return sites.reset_index()


def labelled(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Rows with a mechanism of action; only these are scored.

    Raises
    ------
    UserError
        If a label is not among `classes`, or a logit is not a finite number.
    """
    rows = predictions[predictions["Metadata_moa"].notna()]
    strange = sorted(set(rows["Metadata_moa"]) - set(classes))
    if strange:
        raise UserError(
            f"The predictions have no logits for the label(s) {', '.join(strange)}; check the labels table."
        )
    if not np.isfinite(rows[[LOGIT + name for name in classes]].to_numpy()).all():
        raise UserError(
            "The predictions hold a logit that is not a finite number; the model that made them is broken."
        )
    return rows


def units(predictions: pd.DataFrame, classes: list[str], level: str) -> Units:
    """Gather units at a level: images as they are, or the mean logits of each well or compound.

    Images and wells are resampled by well, within their plate: the sites of a well share cells and staining
    and are no independent evidence, and a plate keeps its number of wells. A compound is one prediction from all of
    its wells (the mean of their means), so at that level compounds are resampled: resampling wells would only drop
    compounds of a single well, and intervals came out about a quarter too narrow. Intervals of images and
    wells thus hold for these compounds in new wells; tests between methods resample compounds at every
    level (`coda.evaluation.bootstrap.accuracy_over_compounds`).

    Parameters
    ----------
    predictions
        Sites with ``Metadata_*`` and ``Logit_<moa>`` columns; unlabelled rows are left out.
    classes
        Mechanisms of action, in the order wanted.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    logits = [LOGIT + name for name in classes]
    rows = labelled(predictions, classes)
    if level != "image":
        rows = _means(rows, [*WELL_KEYS, "Metadata_JCP2022", "Metadata_moa"], logits)
    if level == "compound":
        rows = _means(rows, ["Metadata_JCP2022", "Metadata_moa"], logits)
        stratum, name = pd.Series("compounds", index=rows.index), rows["Metadata_JCP2022"]
    else:
        stratum, name = (
            rows["Metadata_Source"] + "/" + rows["Metadata_Plate"],
            rows["Metadata_Well"],
        )
    label = pd.Index(classes).get_indexer(rows["Metadata_moa"])
    keys = pd.DataFrame({"stratum": stratum, "name": name, "label": label}).reset_index(drop=True)
    keys = keys.sort_values(["label", "stratum", "name"], kind="stable")
    values = rows[logits].to_numpy(np.float64)[keys.index]
    groups = (keys != keys.shift()).any(axis=1).cumsum().to_numpy() - 1
    return Units(
        classes,
        keys["label"].to_numpy(),
        probabilities_of(values),
        groups,
        keys.drop_duplicates(ignore_index=True),
        rows["Metadata_JCP2022"].to_numpy()[keys.index],
    )


def target_splits(predictions: pd.DataFrame, plates: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divide the sites of a target into those of adapted plates and those of the held-out plate.

    `plates` has Metadata_Source, Metadata_Plate and subset.
    """
    return {
        ADAPTED: predictions[on_subset(predictions, plates, TRAIN)],
        HELD_OUT: predictions[on_subset(predictions, plates, VALIDATION)],
    }


def on_subset(rows: pd.DataFrame, plates: pd.DataFrame, subset: str) -> np.ndarray:
    """Mark the rows that lie on plates of a subset.

    Parameters
    ----------
    rows
        With Metadata_Source and Metadata_Plate.
    plates
        Metadata_Source, Metadata_Plate and subset.
    subset
        ``"train"`` or ``"validation"``.

    Returns
    -------
    bool array, shape (rows,)
    """
    wanted = pd.MultiIndex.from_frame(plates.loc[plates["subset"] == subset, PLATE_KEYS])
    return pd.MultiIndex.from_frame(rows[PLATE_KEYS]).isin(wanted)


def target_units(predictions: pd.DataFrame, plates: pd.DataFrame, level: str) -> dict[str, Units]:
    """Gather the units of each split of a target.

    Parameters
    ----------
    predictions, plates
        As in `target_splits`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    return {
        split: units(rows, classes_of(predictions), level)
        for split, rows in target_splits(predictions, plates).items()
    }


def _means(rows: pd.DataFrame, keys: list[str], logits: list[str]) -> pd.DataFrame:
    wide = rows.astype({name: np.float64 for name in logits})
    return wide.groupby(keys, sort=True)[logits].mean().reset_index()
