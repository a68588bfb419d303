"""How far to believe calls on plates that nobody has labelled: what can be measured there, before and after each step.

Controls that lie where the training source's do, and replicates that agree more than before, are signs that a method
reads cells and not the microscope; neither is an accuracy.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS, WELL_KEYS
from coda.errors import UserError
from coda.evaluation.replicate_agreement import replicate_agreement
from coda.evaluation.units import usable
from coda.evaluation.well_profiles import features_of, well_profiles
from coda.methods import method_name

# A method is left for the unadapted one only if its replicates agree clearly less; of controls, chance is the margin.
MARGIN = 0.01


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
        controls it may have nothing to say of one); ``control_wells``; ``control_distance``, how far the mean
        of the negative controls lies from that of the held-out plate's, in standard deviations of its control wells,
        and ``control_chance``, how far it would lie without any shift; ``agreement``,
        `coda.evaluation.replicate_agreement.Agreement.information`;
        ``use``, whether its calls are to be used, and ``reason``, a sentence. What cannot be measured is NaN, and the
        reason says so.
    """
    home = _controls(calibration)
    rows = []
    for name, table in tables.items():
        controls = _controls(table)
        rows.append(
            {
                "method": name,
                "label": method_name(name),
                "plates": len(table[PLATE_KEYS].drop_duplicates()),
                "called_plates": len(usable(table)[PLATE_KEYS].drop_duplicates()),
                "control_wells": len(controls),
                "control_distance": _distance(controls, home),
                "control_chance": _chance(controls, home),
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
            "the negative controls lie",
            "nearer to those of the training source",
            "further off",
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
    """Embeddings of the wells with negative controls, (wells, dimensions)."""
    good = usable(table)
    good = good[good["Metadata_pert_type"] == "negcon"]
    if good.empty:
        return pd.DataFrame()
    profiles = well_profiles(good.drop(columns="Quality_ok", errors="ignore"))
    return profiles.set_index(WELL_KEYS)[features_of(profiles)]


def _distance(controls: pd.DataFrame, home: pd.DataFrame) -> float:
    if len(controls) < 2 or len(home) < 2:
        return np.nan
    spread = np.sqrt(home.to_numpy(np.float64).var(axis=0, ddof=1).sum())
    apart = np.linalg.norm(
        controls.to_numpy(np.float64).mean(axis=0) - home.to_numpy(np.float64).mean(axis=0)
    )
    return float(apart / spread) if spread > 0 else np.nan


def _chance(controls: pd.DataFrame, home: pd.DataFrame) -> float:
    return (
        float(np.sqrt(1 / len(controls) + 1 / len(home))) if len(controls) and len(home) else np.nan
    )


def _agreement(table: pd.DataFrame) -> float:
    try:
        return replicate_agreement(table).information
    except UserError:  # one plate, or no compound on two
        return np.nan
