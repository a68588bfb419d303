"""What a table of predictions counts, at which level: images, wells or compounds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from coda.errors import UserError
from coda.files import read_table

LOGIT = "Logit_"
SITE = ["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]
WELL = SITE[:3]
LEVELS = ("image", "well", "compound")


@dataclass
class Units:
    """What is counted at one level, in the order of class, then of the unit that is resampled.

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


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in the precision of `logits`."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Mechanisms of action that a table of predictions has logits for, in their order."""
    return [name.removeprefix(LOGIT) for name in predictions.columns if name.startswith(LOGIT)]


def read_predictions(path: str | Path, embeddings: bool = False) -> pd.DataFrame:
    """Read a file of predictions, without the embeddings unless asked for: they are most of its bytes.

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
    missing = {*SITE, "Metadata_JCP2022", "Metadata_moa"} - set(names)
    if missing or not classes_of(table):
        lacking = ", ".join(sorted(missing)) or f"{LOGIT}<moa>"
        raise UserError(
            f"The predictions {path} lack the column(s) {lacking}; remove the file and predict again."
        )
    return _one_row_a_site(table) if table.duplicated(SITE).any() else table


def _one_row_a_site(table: pd.DataFrame) -> pd.DataFrame:
    logits = [LOGIT + name for name in classes_of(table)]
    grouped = table.astype(dict.fromkeys(logits, np.float64)).groupby(SITE, sort=False)
    metadata = [name for name in table if name.startswith("Metadata_") or name == "Reason"]
    sites = table.drop_duplicates(SITE)[metadata].set_index(SITE).join(grouped[logits].mean())
    if "Embedding" in table:
        sites["Embedding"] = grouped["Embedding"].agg(
            lambda cells: np.mean(np.stack(list(cells)), axis=0)
        )
    return sites.reset_index()


def labelled(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Rows with a mechanism of action: only these count.

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
    """Gather what counts at a level: images as they are, the mean of logits per well or per compound.

    Images and wells are resampled by well, within their plate: the sites of a well share its cells
    and its staining and are no independent evidence, and a plate keeps its number of wells. A compound
    is one prediction from all of its wells (the mean of their means), so at that level compounds are
    resampled: dropping wells would only take single-well compounds out or in, which leaves intervals
    about a quarter too narrow. So intervals of images and wells speak of these compounds in new wells;
    tests between methods draw compounds at every level (`coda.evaluation.bootstrap.accuracy_over_compounds`).

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
        rows = _means(rows, [*WELL, "Metadata_JCP2022", "Metadata_moa"], logits)
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
    """Divide the sites of a target: ``adapted`` plates train, the ``held_out`` one is for validation.

    `plates` has Metadata_Source, Metadata_Plate and subset.
    """
    subset = plates.set_index(SITE[:2])["subset"]
    part = subset.reindex(pd.MultiIndex.from_frame(predictions[SITE[:2]])).to_numpy()
    return {
        "adapted": predictions[part == "train"],
        "held_out": predictions[part == "validation"],
    }


def _means(rows: pd.DataFrame, keys: list[str], logits: list[str]) -> pd.DataFrame:
    wide = rows.astype({name: np.float64 for name in logits})
    return wide.groupby(keys, sort=True)[logits].mean().reset_index()
