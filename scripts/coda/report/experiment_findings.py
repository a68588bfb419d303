"""What the experiments showed, in words made from their scores alone."""

import numpy as np
import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, SPLIT_NAMES, VALIDATION, source_name
from coda.evaluation.estimates import ALL
from coda.evaluation.experiment_parts import BEFORE
from coda.methods import in_order, method_name
from coda.report.tables import standing

CONTROLS = ("position", "intensity")
SEEN = (
    "Foundations are trained without mechanisms of action, but they have seen images of all compounds and know which "
    "wells hold the same one, and the epoch kept in step 1 was chosen by nearest neighbours with all labels."
)


def experiment_findings(scores: pd.DataFrame, level: str = "image") -> list[str]:
    """Write the findings in a few sentences; disappointing ones are told as plainly as others.

    Parameters
    ----------
    scores
        `coda.evaluation.experiment_scores.score_experiments`.
    level
        Level of the accuracies told.
    """
    rows = scores[scores["level"] == level]
    tellers = {
        "plates": _plates,
        "online": _online,
        "new_compounds": _new_compounds,
        "half_mix": _mix,
    }
    present = set(rows["experiment"])
    return [" ".join(filter(None, tell(rows))) for name, tell in tellers.items() if name in present]


def _plates(rows: pd.DataFrame) -> list[str]:
    own = rows[(rows["experiment"] == "plates") & rows["value"].notna()]
    pairs = own[own["train_source"] != ALL][["train_source", "target_source"]].drop_duplicates()
    said = ["Growing numbers of plates, each with as many steps of training."]
    for train, target in pairs[pairs["train_source"] != pairs["target_source"]].to_numpy():
        part = own[(own["train_source"] == train) & (own["target_source"] == target)]
        split, words = _tested(part)
        plain = _value(part, "unadapted", split)
        curve = [
            f"{_accuracy(_value(part[part['step'] == step], 'coda', split))} with {_count(step)}"
            for step in sorted(part["step"].unique())
        ]
        said.append(
            f"From {source_name(train)} to {source_name(target)}, accuracy on the {words}: "
            f"{_accuracy(plain)} unadapted, {', '.join(curve)}."
        )
    reasons = rows.loc[(rows["experiment"] == "plates") & (rows["n"] == 0), "reason"].unique()
    if len(reasons):
        said.append(f"Larger numbers asked for are left out: {'; '.join(reasons)}.")
    return said


def _online(rows: pd.DataFrame) -> list[str]:
    own = rows[(rows["experiment"] == "online") & (rows["train_source"] == ALL)]
    steps = sorted(own["step"].unique())
    gains = own[
        (own["metric"] == "difference") & (own["baseline"] == BEFORE) & (own["split"] == "new")
    ]
    later = gains[gains["step"] > 1]
    said = ["Plate after plate, in the order of the batches."]
    if len(later):
        before = own[
            (own["method"] == BEFORE) & (own["metric"] == "difference") & (own["step"] > 1)
            & (own["baseline"] == "unadapted")
        ]  # fmt: skip
        said.append(
            f"A new plate after the first gains {_points(before['value'].mean())} over no adaptation from the plates "
            f"before it, and {_points(later['value'].mean())} more from its own adaptation (means over plates); "
            f"the latter is clear of zero at {(later['low'] > 0).sum()} of {len(later)} plates."
        )
    pairs = rows[(rows["experiment"] == "online") & (rows["train_source"] != ALL)]
    for (train, target), part in pairs[pairs["split"] == "home"].groupby(
        ["train_source", "target_source"]
    ):
        last = part[part["step"] == part["step"].max()]
        plain, after = (_value(last, method, "home") for method in ("unadapted", "coda"))
        said.append(
            f"After {_count(max(part['step']))} of {source_name(target)}, accuracy on the held-out plate of "
            f"{source_name(train)} went from {_accuracy(plain)} to {_accuracy(after)}."
        )
    return said if steps else []


def _new_compounds(rows: pd.DataFrame) -> list[str]:
    own = rows[
        (rows["train_source"] == ALL)
        & rows["experiment"].isin(["new_compounds", "known_compounds"])
    ]
    said = [
        "New compounds: a task model that learned some compounds of each mechanism, tested on the others.",
        SEEN,
    ]
    away, words = _tested(own)
    for method, split in (("in_domain", VALIDATION), ("unadapted", away), ("coda", away)):
        known, new = (
            _value(own[own["experiment"] == f"{kind}_compounds"], method, split)
            for kind in ("known", "new")
        )
        where = f" ({words})" if split == away else ""
        said.append(
            f"{method_name(method)}{where}: {_accuracy(known)} on known, {_accuracy(new)} on new compounds."
        )
    new = own[(own["experiment"] == "new_compounds") & (own["split"] == away)]
    guess = _value(new, "chance", away)
    for control in CONTROLS:
        value = _value(new, control, away)
        above = value["low_compounds"] > guess["value"]
        verdict = "clearly above" if above else "not clearly above"
        said.append(
            f"{method_name(control)}: {_accuracy(value)} on new compounds, over compounds {verdict} a constant guess "
            f"({guess['value']:.3f})."
        )
    stands = standing(new, "intensity", away, (*CONTROLS, "unadapted"))
    close = [*stands["below"], *stands["near"]]
    if close:
        said.append(
            "Warning: not clearly above the control of intensities (interval of the difference over compounds): "
            f"{', '.join(close)}."
        )
    if stands["undefined"]:
        undefined = ", ".join(stands["undefined"])
        said.append(
            f"Not comparable with that control, as the difference is undefined: {undefined}."
        )
    return said


def _mix(rows: pd.DataFrame) -> list[str]:
    own = rows[rows["train_source"] == ALL]
    split, words = _tested(own[own["experiment"] == "half_mix"])
    said = [
        "Half of the mechanisms of action on the target: adaptation and alignment saw only these, and only these are "
        f"tested; beside it, what saw all of them, on the same wells of the {words}."
    ]
    half = own[own["experiment"] == "half_mix"]
    for method in in_order(set(half["method"]) - {"chance", "in_domain", "unadapted"}):
        values = [
            _value(own[own["experiment"] == kind], method, split)
            for kind in ("half_mix", "whole_mix")
        ]
        said.append(
            f"{method_name(method)}: {_accuracy(values[0])} with half, {_accuracy(values[1])} with all."
        )
    return said


def _tested(rows: pd.DataFrame) -> tuple[str, str]:
    """Choose the split to report, with its words: a target may have no held-out plate."""
    # The accuracy without adaptation is there wherever anything is tested.
    split = ADAPTED if pd.isna(_value(rows, "unadapted", HELD_OUT)["value"]) else HELD_OUT
    return split, SPLIT_NAMES[split]


def _value(rows: pd.DataFrame, method: str, split: str) -> pd.Series:
    """Accuracy of a method on a split: the first such row, or one without values where there is none."""
    fits = (rows["method"] == method) & (rows["split"] == split) & (rows["metric"] == "accuracy")
    return rows[fits].iloc[0] if fits.any() else pd.Series(np.nan, index=rows.columns)


def _accuracy(row: pd.Series) -> str:
    if pd.isna(row["value"]):
        return "not defined"
    value, low, high = (f"{row[name]:.3f}" for name in ("value", "low", "high"))
    return value if pd.isna(row["low"]) else f"{value} ({low} to {high})"


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"


def _count(number: int) -> str:
    return "1 plate" if number == 1 else f"{number} plates"
