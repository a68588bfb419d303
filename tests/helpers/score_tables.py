"""Tables of scores: rows looked up in them, and one of the features."""

import numpy as np
import pandas as pd
from coda.evaluation.embedding_scores import METRICS as REPRESENTATION

HOME, TARGET = "source_1", "source_2"


def pick(table, **wanted):
    """Rows whose columns have these values; None stands for a missing one."""
    for name, value in wanted.items():
        table = table[table[name].isna()] if value is None else table[table[name] == value]
    return table


def told(scores, experiment, step, method, split, level="image", metric="accuracy", **wanted):
    """First row of an experiment's scores with these values, by default of HOME as training source."""
    wanted = {"train_source": HOME, **wanted}
    rows = scores[
        (scores["experiment"] == experiment)
        & (scores["step"].isna() if step is None else scores["step"] == step)
    ]
    named = dict(method=method, split=split, level=level, metric=metric, **wanted)
    for name, value in named.items():
        rows = rows[rows[name] == value]
    return rows.iloc[0]


def representation():
    """Scores of the features of two methods, one of them undefined."""
    rows = [
        {"method": method, "metric": metric, "value": value, "chance": 0.25, "reason": None}
        for method, value in (("unadapted", 0.75), ("coda", 0.5))
        for metric in REPRESENTATION
    ]
    table = pd.DataFrame(rows).assign(train_source="source_1", target_source="source_2", seed=0)
    table.loc[0, ["value", "reason"]] = np.nan, "one plate only"
    return table


def coverage(sources=(HOME, TARGET)):
    """Coverage of the sets of two methods between two sources, and at home."""
    rows = []
    for number, source in enumerate(sources):
        target = sources[1 - number]
        for method, place, split, reached in (
            ("unadapted", source, "validation", 0.9),
            ("unadapted", target, "adapted", 0.25 + number / 4),
            ("coda", target, "adapted", 1.0),
        ):
            for level in ("compound", "well"):
                told = {"train_source": source, "target_source": place, "seed": 1, "method": method}
                told |= {
                    "split": split,
                    "level": level,
                    "asked": 0.9,
                    "set_size": 1.5,
                    "empty": 0.25,
                }
                told |= {"too_large": 0.0, "units": 20, "compounds": 20, "name": "all", "of": "all"}
                spread = {
                    "coverage": reached,
                    "low": reached - 0.25,
                    "high": min(1, reached + 0.25),
                }
                rows.append(told | spread)
                for name, share in (("moa a", reached), ("moa b", reached / 2)):
                    rows.append(rows[-1] | {"of": "mechanism", "name": name, "coverage": share})
    return pd.DataFrame(rows)
