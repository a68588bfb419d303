"""Scores of every method on every pair of sources, compared on the same wells.

Training sources are scored one by one (`score_source`), so that jobs can do it side by side, and compared afterwards
(`compare_scores`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from coda.columns import HELD_OUT, PLATE_KEYS, VALIDATION
from coda.errors import UserError
from coda.evaluation import plate_accuracy
from coda.evaluation.bootstrap import accuracy_over_compounds, bootstrap
from coda.evaluation.estimates import (
    ACCURACY,
    Estimate,
    Estimates,
    Key,
    compare,
    estimates_table,
    means_over_pairs,
    over_pairs,
    over_seeds,
)
from coda.evaluation.metrics import Score, pair_wins, score_units
from coda.evaluation.significance import corrected
from coda.evaluation.units import LEVELS, Units, classes_of, read_predictions, target_splits, units
from coda.files import read_table, write_table
from coda.methods import COMPOSED
from coda.progress import track


@dataclass
class Evaluation:
    """Three tables in long form, one value a row.

    Attributes
    ----------
    metrics : pandas.DataFrame
        Every training run by itself: train_source, target_source, seed, method, split, level, metric, baseline,
        value, low, high, low_compounds, high_compounds, p, p_holm, n, reason.
    summary : pandas.DataFrame
        The same averaged over seeds, and over pairs where both sources are ``"all"``; columns seeds and
        pairs count what went in, in place of seed. Its intervals and tests resample the seeds too.
    by_plate : pandas.DataFrame
        Accuracies on each plate by itself, averaged over seeds: `coda.evaluation.plate_accuracy.plates_table`.

    Intervals are over wells (compounds at their level). Accuracies and differences have one over compounds too
    (`low_compounds` to `high_compounds`), as p is; see `coda.evaluation.significance`.
    """

    metrics: pd.DataFrame
    summary: pd.DataFrame
    by_plate: pd.DataFrame


@dataclass
class SourceScores:
    """Scores of what was trained on one source.

    Attributes
    ----------
    runs : pandas.DataFrame
        Every training run by itself: `coda.evaluation.estimates.estimates_table`.
    means : Estimates
        The same averaged over seeds, with their replicates, before they are compared.
    plates : pandas.DataFrame
        What was predicted, by plate: Metadata_Source, Metadata_Plate, path, sites and classes, the last two as digests.
    by_plate : pandas.DataFrame
        Accuracies on each plate by itself: `coda.evaluation.plate_accuracy.plates_table`.
    """

    runs: pd.DataFrame
    means: Estimates
    plates: pd.DataFrame
    by_plate: pd.DataFrame

    def save(self, folder: str | Path) -> None:
        """Write one Parquet file each."""
        write_table(self.runs, Path(folder, "runs.parquet"))
        write_table(_as_table(self.means), Path(folder, "means.parquet"))
        write_table(self.plates, Path(folder, "plates.parquet"))
        write_table(self.by_plate, Path(folder, "by_plate.parquet"))

    @classmethod
    def load(cls, folder: str | Path) -> "SourceScores":
        """Read what `save` wrote."""
        return cls(
            read_table(Path(folder, "runs.parquet")),
            _as_estimates(read_table(Path(folder, "means.parquet"))),
            read_table(Path(folder, "plates.parquet")),
            read_table(Path(folder, "by_plate.parquet")),
        )


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read the metrics, the summary or accuracies by plate back from CSV or Parquet, numbers as numbers."""
    table = read_table(path)
    numbers = {
        "seed": int,
        "value": float,
        "low": float,
        "high": float,
        "low_compounds": float,
        "high_compounds": float,
        "p": float,
        "p_holm": float,
        "n": int,
        "seeds": int,
        "pairs": int,
    }
    return table.astype({name: kind for name, kind in numbers.items() if name in table})


def score_predictions(
    files: Iterable[dict], plates: pd.DataFrame, replicates: int = 1000, seed: int = 0
) -> Evaluation:
    """Score every file of predictions and compare the methods on the same wells.

    For many sources, `score_source` for each and `compare_scores` give the same in separate jobs.

    Parameters
    ----------
    files
        One dict a file: train_source, target_source, seed, method, path. Predictions of ``unadapted`` on
        the training source itself become the method ``in_domain``.
    plates
        Metadata_Source, Metadata_Plate and subset. Of the training source only ``validation`` plates count
        (split ``validation``); of a target, ``train`` plates are the split ``adapted`` and ``validation`` plates the
        split ``held_out``.
    replicates
        Number of bootstrap resamples.
    seed
        Seed of the resampling.

    Returns
    -------
    Evaluation
        Beside the metrics, with an empty baseline, each method has rows ``difference`` to every baseline
        and to what it was before adaptation, and, where it adapts and has the task model,
        ``gap_closed``: both of accuracy and over the same resamples as what they compare.

    Raises
    ------
    UserError
        If files of one plate hold different sites, or files have different classes, or a plate is not in `plates`.
    """
    by_source: dict[str, list[dict]] = defaultdict(list)
    for file in files:
        by_source[file["train_source"]].append(file)
    return compare_scores(
        [score_source(by_source[name], plates, replicates, seed) for name in sorted(by_source)]
    )


def score_source(
    files: list[dict], plates: pd.DataFrame, replicates: int = 1000, seed: int = 0
) -> SourceScores:
    """Score the predictions of what was trained on one source.

    Parameters
    ----------
    files, plates, replicates, seed
        As in `score_predictions`, the files of one training source only.
    """
    subset = plates.set_index(PLATE_KEYS)["subset"]
    runs: Estimates = defaultdict(dict)
    by_plate: Estimates = {}
    seen: dict[tuple[str, str], dict] = {}
    for file in track(files, "score predictions", len(files), "files"):
        predictions = read_predictions(file["path"])
        classes = classes_of(predictions)
        for plate in _plates_of(predictions, classes, file, subset):
            _check_plate(plate, seen)
        for split, rows in _splits(predictions, file, plates).items():
            for level in LEVELS:
                key = _key(file, split, level)
                counted = _score(runs, key, file, rows, classes, replicates, seed)
                if level in plate_accuracy.LEVELS:
                    plate_accuracy.add_plates(by_plate, key, counted, replicates, seed)
    means = over_seeds(runs, replicates, seed)
    compare(runs)
    return SourceScores(
        estimates_table(runs),
        means,
        pd.DataFrame(list(seen.values())),
        plate_accuracy.plates_table(over_seeds(by_plate, replicates, seed), plates),
    )


def compare_scores(parts: list[SourceScores]) -> Evaluation:
    """Compare the scores of all training sources, given in the order of their names; see `score_predictions`."""
    seen: dict[tuple[str, str], dict] = {}
    summary: Estimates = {}
    for part in parts:
        for plate in part.plates.to_dict("records"):
            _check_plate(plate, seen)
        summary |= part.means
    runs = pd.concat([part.runs for part in parts], ignore_index=True)
    return Evaluation(
        _tested(runs).drop(columns=["pairs", "seeds"]),
        _tested(estimates_table(over_pairs(summary))).drop(columns="seed"),
        pd.concat([part.by_plate for part in parts], ignore_index=True),
    )


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with p corrected over the methods and pairs of a seed, split and level."""
    return corrected(table, ["seed", "split", "level", means_over_pairs(table)])


_FIELDS = [field.name for field in fields(Estimate) if field.name != "score"]


def _as_table(estimates: Estimates) -> pd.DataFrame:
    """Lay estimates out one a row, with replicates as lists."""
    table = pd.DataFrame(
        [
            {
                **key._asdict(),
                "metric": metric,
                "value": estimate.score.value,
                "reason": estimate.score.reason,
                **{name: getattr(estimate, name) for name in _FIELDS},
            }
            for key, by in estimates.items()
            for (metric, _), estimate in by.items()
        ]
    )
    return table.assign(compounds=table["compounds"].map(sorted))


def _as_estimates(table: pd.DataFrame) -> Estimates:
    estimates: Estimates = defaultdict(dict)
    table = table.assign(reason=table["reason"].astype(object).where(table["reason"].notna(), None))
    table["compounds"] = table["compounds"].map(frozenset)
    for row in table.to_dict("records"):
        key = Key(*(row[name] for name in Key._fields))
        known = {name: row[name] for name in _FIELDS}
        estimates[key][row["metric"], None] = Estimate(Score(row["value"], row["reason"]), **known)
    return estimates


def _plates_of(
    predictions: pd.DataFrame, classes: list[str], file: dict, subset: pd.Series
) -> list[dict]:
    """Say of each plate which sites are predicted, as every method must have every one: see `SourceScores`."""
    plates = []
    for (source, plate), rows in predictions.groupby(PLATE_KEYS):
        if source != file["target_source"] or (source, plate) not in subset.index:
            raise UserError(
                f"{file['path']} holds plate {plate} of {source}, which is not among the plates of "
                f"{file['target_source']}; remove the file and predict again."
            )
        sites = sorted({*zip(rows["Metadata_Well"], rows["Metadata_Site"], strict=True)})
        what = {"path": file["path"], "sites": _digest(sites), "classes": _digest(classes)}
        plates.append({"Metadata_Source": source, "Metadata_Plate": plate, **what})
    return plates


def _check_plate(plate: dict, seen: dict[tuple[str, str], dict]) -> None:
    """Refuse comparisons on different images, or of different classes.

    Parameters
    ----------
    plate
        A row of `SourceScores.plates`.
    seen
        Such rows that came before, by source and plate; a new plate is added.

    Raises
    ------
    UserError
        Naming the two files that differ.
    """
    source, name = plate["Metadata_Source"], plate["Metadata_Plate"]
    before = seen.setdefault((source, name), plate)
    first = next(iter(seen.values()))
    if plate["classes"] != first["classes"]:
        raise UserError(
            f"{plate['path']} and {first['path']} differ in their classes; train on the same labels."
        )
    if plate["sites"] != before["sites"]:
        raise UserError(
            f"{plate['path']} and {before['path']} hold different sites of plate {name}; "
            "remove both and predict again."
        )


def _digest(value: list) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _splits(predictions: pd.DataFrame, file: dict, plates: pd.DataFrame) -> dict[str, pd.DataFrame]:
    parts = target_splits(predictions, plates)
    at_home = file["target_source"] == file["train_source"]
    return {VALIDATION: parts[HELD_OUT]} if at_home else parts


def _key(file: dict, split: str, level: str) -> Key:
    method = "in_domain" if (split, file["method"]) == (VALIDATION, "unadapted") else file["method"]
    return Key(file["train_source"], file["target_source"], file["seed"], method, split, level)


def _score(
    runs: Estimates,
    key: Key,
    file: dict,
    rows: pd.DataFrame,
    classes: list[str],
    replicates: int,
    seed: int,
) -> Units:
    """Add the scores of some predictions to those of the runs, and give the units that they are of."""
    oracle = COMPOSED[file["method"]].adaptation == "oracle" and rows.empty
    reason = "the oracle was trained on these plates" if oracle else reasons_of(rows)
    counted = units(rows.iloc[:0] if reason else rows, classes, key.level)
    scored, guess = estimate_units(counted, replicates, seed, reason)
    runs[key].update(scored)
    if guess:
        runs[key._replace(method="chance")][ACCURACY] = guess
    return counted


def reasons_of(rows: pd.DataFrame) -> str:
    """Say why some predictions have no value; empty where all have one."""
    return "; ".join(rows["Reason"].dropna().unique()) if "Reason" in rows else ""


def estimate_all(
    rows: pd.DataFrame, classes: list[str], level: str, replicates: int, seed: int
) -> tuple[dict[tuple[str, None], Estimate], Estimate | None]:
    """Estimate every metric on some predictions, and the accuracy of always naming the commonest class.

    Where the predictions give a reason for some rows, no metric has a value: scores of part of a split could not be
    compared with those of other methods on all of it.

    Parameters
    ----------
    rows
        Predictions of the sites of one split.
    classes
        Mechanisms of action, in the order of the logits.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    replicates, seed
        Number of resamples, and their seed.

    Returns
    -------
    dict, Estimate or None
        As `estimate_units`.
    """
    reason = reasons_of(rows)
    counted = units(rows.iloc[:0] if reason else rows, classes, level)
    return estimate_units(counted, replicates, seed, reason)


def estimate_units(
    counted: Units, replicates: int, seed: int, reason: str = ""
) -> tuple[dict[tuple[str, None], Estimate], Estimate | None]:
    """Estimate every metric on some units, and the accuracy of always naming the commonest class.

    Parameters
    ----------
    counted
        Units of one split and level.
    replicates, seed
        Number of resamples, and their seed.
    reason
        Why there is nothing to score, where that is so; no metric has a value then.

    Returns
    -------
    dict, Estimate or None
        Metric and ``None`` (no baseline) to its estimate; and the guess, None without labelled units.
    """
    wins = pair_wins(counted)
    drawn = bootstrap(counted, wins, replicates, seed)
    scored = {}
    for metric, score in score_units(counted, wins).items():
        score = Score(score.value, reason) if reason else score
        scored[metric, None] = Estimate(score, drawn[metric], len(counted))
    scored[ACCURACY].over_compounds = accuracy_over_compounds(counted, replicates, seed)
    scored[ACCURACY].compounds = frozenset(counted.compounds)
    if not len(counted):
        return scored, None
    commonest = np.bincount(counted.labels).max() / len(counted)
    return scored, Estimate(Score(float(commonest)), None, len(counted))
