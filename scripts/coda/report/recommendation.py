"""What a lab should use on each target, in a sentence, and on what evidence."""

import numpy as np
import pandas as pd

from coda.columns import source_name
from coda.evaluation.recommendation import STARTING
from coda.methods import method_name
from coda.report.front import named


def recommended(table: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Say which method to use, one sentence for all targets with the same answer, and why, one sentence a target.

    Parameters
    ----------
    table
        `coda.evaluation.recommendation.recommendations`.
    """
    several = table["train_source"].nunique() > 1
    answers: dict[tuple[str, str], dict[str, str]] = {}
    for (source, target), rows in table.groupby(["train_source", "target_source"], sort=False):
        answer, why = _answer(rows)
        answers.setdefault((source, answer), {})[target] = why
    said = []
    for (source, answer), targets in answers.items():
        trained = f", trained on {source_name(source)}" if several else ""
        reasons = [f"{source_name(target).capitalize()}: {why}" for target, why in targets.items() if why]  # fmt: skip
        said.append((f"For {named(set(targets))}{trained}: {answer}.", reasons))
    return said


def _answer(rows: pd.DataFrame) -> tuple[str, str]:
    if not rows["chosen"].any():
        return "no method can be recommended without labels", rows["reason"].iloc[0]
    chosen = rows[rows["chosen"]].iloc[0]
    before = rows[rows["method"] == STARTING].iloc[0]
    name = method_name(chosen["method"])
    if len(rows) == 1:
        return f"{name} is the only method that was run", ""
    gain = (
        ""
        if chosen["method"] == STARTING
        else f" ({chosen['agreement']:.2f} on a scale from 0 to 1, unadapted {before['agreement']:.2f})"
    )
    controls = (
        ""
        if np.isnan(chosen["control_distance"])
        else " among those that leave the negative controls no further from the training source's than they were"
    )
    return f"use {name}", (
        f"of {len(rows)} methods, its calls agree most between replicates on different plates{gain}{controls}. It "
        f"comes first in {100 * chosen['confidence']:.0f} % of resamplings of the compounds. No label of the target "
        "was used for this choice. Agreement does not show compounds that are called wrongly on every plate."
    )
