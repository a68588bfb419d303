"""What a lab should use on each target, and how sure that is, in a sentence for each."""

import numpy as np
import pandas as pd

from coda.columns import source_name
from coda.evaluation.recommendation import STARTING
from coda.methods import method_name


def recommended(table: pd.DataFrame) -> list[str]:
    """Say which method to use for each pair of sources, one sentence a pair, and on what evidence.

    Parameters
    ----------
    table
        `coda.evaluation.recommendation.recommendations`.
    """
    pairs = table.groupby(["train_source", "target_source"], sort=False)
    several = table["train_source"].nunique() > 1
    return [
        _sentence(rows, source_name(target) + (f" (trained on {source_name(source)})" * several))
        for (source, target), rows in pairs
    ]


def _sentence(rows: pd.DataFrame, target: str) -> str:
    if not rows["chosen"].any():
        return f"For {target} no method can be recommended without labels: {rows['reason'].iloc[0]}"
    chosen = rows[rows["chosen"]].iloc[0]
    before = rows[rows["method"] == STARTING].iloc[0]
    name = method_name(chosen["method"])
    if len(rows) == 1:
        return f"For {target}, {name} is the only method that was run."
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
    return (
        f"For {target}, use {name}: of {len(rows)} methods, its calls agree most between replicates on different "
        f"plates{gain}{controls}. It comes first in {100 * chosen['confidence']:.0f} % of resamplings of the "
        "compounds. No label of the target was used for this choice; agreement does not show compounds that are called "
        "wrongly on every plate."
    )
