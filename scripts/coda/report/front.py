"""The first screen of the report: what was found in one sentence, and three numbers."""

import numpy as np
import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, VALIDATION
from coda.evaluation.estimates import ALL
from coda.methods import compared_with, method_name
from coda.report.findings import NOT_CHOSEN, PLURAL
from coda.report.tables import score_of


def front_page(
    summary: pd.DataFrame, level: str = "image"
) -> tuple[str, list[tuple[str, str, str]]]:
    """Say what was found and how sure it is, and give the numbers to remember.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    tuple
        The sentence, and the numbers as (value, what, interval), in domain, unadapted and of the best method, as far
        as they are defined; on held-out plates of the targets, or on the adapted ones where none is held out.
    """
    split = next(
        (
            split
            for split in (HELD_OUT, ADAPTED)
            if _defined(summary, "unadapted", split, level) is not None
        ),
        ADAPTED,
    )
    where = PLURAL[split]
    home = _defined(summary, "in_domain", VALIDATION, level)
    away = _defined(summary, "unadapted", split, level)
    best = _best(summary, split, level)
    rows = [
        (home, "in domain, on the training source's own held-out plate"),
        (away, f"unadapted, on {where}"),
    ]
    if best is not None:
        rows.append((best, f"{method_name(best['method'])}, best of all methods, on {where}"))
    numbers = [
        (f"{100 * row['value']:.1f} %", words, _interval(row))
        for row, words in rows
        if row is not None
    ]
    if best is None or away is None:
        return "", numbers
    return _sentence(summary, best, away, split, level), numbers


def _sentence(
    summary: pd.DataFrame, best: pd.Series, away: pd.Series, split: str, level: str
) -> str:
    name, where = method_name(best["method"]), PLURAL[split]
    baseline = compared_with(best["method"])
    gain = score_of(summary, (ALL, ALL), best["method"], split, level, "difference", "unadapted")
    if gain is None and baseline:
        gain = score_of(summary, (ALL, ALL), best["method"], split, level, "difference", baseline)
    said = f"On {where}, {name} was best, with {100 * best['value']:.1f} % of the {level}s right"
    if gain is None or np.isnan(gain["value"]):
        return (
            f"{said}, against {100 * away['value']:.1f} % unadapted; the difference was not tested."
        )
    against = method_name(gain["baseline"])
    points = f"{100 * abs(gain['value']):.1f} points {'more' if gain['value'] >= 0 else 'less'} than {against}"
    if np.isnan(gain["low"]):
        return f"{said}, {points}; there is no interval to say how sure that is."
    interval = (
        f"95 % interval of the difference {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
    )
    clear = gain["low"] > 0 or gain["high"] < 0
    sure = "clear on these compounds" if clear else "within chance"
    return (
        f"{said}, {points}: {sure} ({interval}), and flattered by having been chosen as the best."
    )


def _best(summary: pd.DataFrame, split: str, level: str) -> pd.Series | None:
    rows = summary[
        (summary["metric"] == "accuracy")
        & (summary["level"] == level)
        & (summary["train_source"] == ALL)
        & (summary["split"] == split)
        & ~summary["method"].isin([*NOT_CHOSEN, "unadapted"])
    ].dropna(subset="value")
    return rows.loc[rows["value"].idxmax()] if len(rows) else None


def _defined(summary: pd.DataFrame, method: str, split: str, level: str) -> pd.Series | None:
    row = score_of(summary, (ALL, ALL), method, split, level)
    return None if row is None or np.isnan(row["value"]) else row


def _interval(row: pd.Series) -> str:
    if np.isnan(row["low"]):
        return "no interval"
    return f"95 % interval {100 * row['low']:.1f} to {100 * row['high']:.1f}"
