"""How far to believe calls on plates that nobody has labelled: what can be measured there, before and after each step.

Controls that are called as the training source's are, and replicates that agree more than before, are signs that a
method reads cells and not the microscope; neither is an accuracy. Controls' embeddings tell nothing of the kind: what
adapts to a lab may move them far and still be read rightly (benchmarks/calls.py).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS, WELL_KEYS
from coda.errors import UserError
from coda.evaluation.recommendation import control_distance, divergence
from coda.evaluation.replicate_agreement import replicate_agreement
from coda.evaluation.units import LOGIT, classes_of, probabilities_of, usable
from coda.methods import method_name

# A method is left for the unadapted one only if its replicates agree clearly less; of controls, chance is the margin.
MARGIN = 0.01
RESAMPLINGS = 500


def trust(tables: Mapping[str, pd.DataFrame], calibration: pd.DataFrame) -> pd.DataFrame:
    """Measure what tells, without labels, how far to believe each method.

    Parameters
    ----------
    tables
        Predictions of the target's sites by each method, a step further each; the first is the pipeline as it was
        trained.
    calibration
        Predictions of the training source's held-out plate.

    Returns
    -------
    pandas.DataFrame
        One row a method: ``method``, ``label``; ``plates`` and those that it is ``called_plates`` of (without negative
        controls it may have nothing to say of one); ``control_wells``; ``control_distance``, how far what
        the negative controls are called lies from that of the held-out plate's
        (`coda.evaluation.recommendation.control_distance`), and ``control_chance``, what it exceeds in one of 20 cases
        without any shift; ``agreement``,
        `coda.evaluation.replicate_agreement.Agreement.information`;
        ``use``, whether its calls are to be used, and ``reason``, a sentence. What cannot be measured is NaN, and the
        reason says so.
    """
    home = _controls(calibration)
    controls = {name: _controls(table) for name, table in tables.items()}
    wells = {name: len(rows[WELL_KEYS].drop_duplicates()) for name, rows in controls.items()}
    chance = {count: _chance(home, count) for count in set(wells.values())}
    rows = []
    for name, table in tables.items():
        rows.append(
            {
                "method": name,
                "label": method_name(name),
                "plates": len(table[PLATE_KEYS].drop_duplicates()),
                "called_plates": len(usable(table)[PLATE_KEYS].drop_duplicates()),
                "control_wells": wells[name],
                "control_distance": control_distance(controls[name], home),
                "control_chance": chance[wells[name]],
                "agreement": _agreement(table),
            }
        )
    found = pd.DataFrame(rows)
    chosen, reason = _choose(found)
    return found.assign(use=found["method"] == chosen, reason=reason)


def _choose(found: pd.DataFrame) -> tuple[str, str]:
    """Choose between the first method and the last by what was measured, and say why in one sentence.

    The last is that of the last step which all plates allow.
    """
    whole = found[found["called_plates"] == found["called_plates"].max()]
    plain, last, wanted = found.iloc[0], whole.iloc[-1], found.iloc[-1]
    chosen, reason = _choose_between(plain, last)
    if last["method"] != wanted["method"]:
        reason += (
            f" {wanted['label']} says nothing of {last['called_plates'] - wanted['called_plates']} of "
            f"{last['called_plates']} plate(s), which lack negative controls."
        )
    return chosen, reason


def _choose_between(plain: pd.Series, last: pd.Series) -> tuple[str, str]:
    if plain["method"] == last["method"]:
        return last["method"], f"Use {last['label']}."
    signs = {
        "agreement": (1, "replicates on different plates agree", "more", "less"),
        "control_distance": (
            -1,
            "the negative controls are called",
            "more like those of the training source",
            "less like those of the training source",
        ),
    }
    for column, (better, words, well, badly) in signs.items():
        before, after = plain[column], last[column]
        if np.isnan(before) or np.isnan(after):
            continue
        gain, numbers = better * (after - before), f"({before:.2f} before, {after:.2f} after)"
        margin = MARGIN if column == "agreement" else last["control_chance"]
        if gain < -margin:
            return plain[
                "method"
            ], f"Use the calls without adaptation: by {last['label']}, {words} {badly} {numbers}."
        how = well if gain > margin else "about as before"
        return last["method"], f"Use {last['label']}: {words} {how} {numbers}."
    return last["method"], (
        "Nothing on these plates tells how far to believe the calls: there are no negative controls, and no compound "
        "on two plates."
    )


def _controls(table: pd.DataFrame) -> pd.DataFrame:
    """Good sites of negative controls."""
    good = usable(table)
    return good[good["Metadata_pert_type"] == "negcon"]


def _chance(home: pd.DataFrame, wells: int) -> float:
    """Distance that controls in so many wells exceed in one of 20 cases without any shift, by resampling wells."""
    logits = home[[LOGIT + name for name in classes_of(home)]].to_numpy(np.float64)
    each = pd.DataFrame(probabilities_of(logits)).groupby(
        [home[key].to_numpy() for key in WELL_KEYS]
    )
    means, random = each.mean().to_numpy(), np.random.default_rng(0)
    if not len(means) or not wells:
        return np.nan
    drawn = [
        [means[random.integers(len(means), size=size)].mean(axis=0) for size in (wells, len(means))]
        for _ in range(RESAMPLINGS)
    ]
    return float(np.quantile([divergence(*pair) for pair in drawn], 0.95))


def _agreement(table: pd.DataFrame) -> float:
    try:
        return replicate_agreement(table).information
    except UserError:  # one plate, or no compound on two
        return np.nan
