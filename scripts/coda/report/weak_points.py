"""Where the best method is weak though its mean is good: mechanisms, confidences, features of labs that lie apart."""

import numpy as np
import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, source_name
from coda.evaluation.estimates import ALL
from coda.methods import method_name
from coda.report.findings import listed
from coda.report.front import best_method
from coda.report.tables import score_of

OFF = 0.1  # calibration error from which on confidences are called off
FEW = 5  # most mechanisms named
APART = 0.1  # of nearest wells, more from the same lab than if labs were mixed


def weak_points(
    summary: pd.DataFrame,
    representation: pd.DataFrame,
    gains: pd.DataFrame | None,
    after: str | None,
    level: str = "image",
) -> list[str]:
    """List them, one sentence each; nothing where nothing is weak.

    Parameters
    ----------
    summary, level
        As in `coda.report.front.front_page`.
    representation
        `coda.evaluation.embedding_scores.score_embeddings`.
    gains
        `coda.figures.gains.gain_table` of all pairs and splits, with train_source, target_source and split; those of
        held-out plates count where there are any.
    after
        The method that the gains are of.
    """
    best = best_method(summary, level)
    said = [] if gains is None or after is None else _harmed(gains, after, level)
    if best is not None:
        said += [_confidence(summary, best, level), _labs_apart(representation, best)]
    return [sentence for sentence in said if sentence]


def _harmed(gains: pd.DataFrame, after: str, level: str) -> list[str]:
    """Name mechanisms that are clearly less often right than unadapted, and the one that is least often right."""
    known = gains.dropna(subset="after")
    known = known[known["split"] == (HELD_OUT if HELD_OUT in set(known["split"]) else ADAPTED)]
    several = known["train_source"].nunique() > 1
    clear, said = known[known["high"] < 0], []
    if len(clear):
        labs = clear["target_source"].map(source_name)
        if several:
            labs = clear["train_source"].map(source_name) + " to " + labs
        where = labs.groupby(clear["moa"], sort=False).agg(", ".join)
        said.append(
            f"Named right less often with {method_name(after)} than unadapted, by intervals below zero: "
            f"{listed([f'{moa} ({labs})' for moa, labs in where.items()], ', ', FEW)}."
        )
    means = known.groupby("moa")["after"].mean().sort_values(kind="stable")
    if len(means) > 1:
        said.append(
            f"Mechanisms differ: with {method_name(after)}, {100 * means.iloc[0]:.0f} % of the {level}s of "
            f"{means.index[0]} are named right, {100 * means.iloc[-1]:.0f} % of those of {means.index[-1]}."
        )
    return said


def _confidence(summary: pd.DataFrame, best: str, level: str) -> str:
    rows = (
        score_of(summary, (ALL, ALL), best, split, level, "calibration_error")
        for split in (HELD_OUT, ADAPTED)
    )
    error = next(
        (row["value"] for row in rows if row is not None and not np.isnan(row["value"])), 0.0
    )
    if error <= OFF:
        return ""
    return (
        f"Confidences with {method_name(best)} are off by {100 * error:.0f} points on average (expected calibration "
        "error). Go by the sets of mechanisms, which are calibrated."
    )


def _labs_apart(representation: pd.DataFrame, best: str) -> str:
    rows = representation[representation["metric"] == "purity_source"]
    means = rows.groupby("method")[["value", "chance"]].mean()
    if best not in means.index or not means.loc[best, "value"] > means.loc[best, "chance"] + APART:
        return ""
    same, mixed = 100 * means.loc[best]
    return (
        f"Labs still lie apart in feature space: with {method_name(best)}, {same:.0f} % of the nearest wells of a well "
        f"are of its own lab ({mixed:.0f} % if labs were mixed). Compare profiles within a lab."
    )
