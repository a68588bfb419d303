"""The first screen of the report: what was found and how sure it is, three numbers, and what they are about."""

import numpy as np
import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, PLATE_KEYS, VALIDATION, source_name, sources_in_order
from coda.evaluation.estimates import ALL
from coda.methods import compared_with, method_name
from coda.report.findings import NOT_CHOSEN
from coda.report.tables import score_of

WHERE = {
    HELD_OUT: "held-out plates of other labs",
    ADAPTED: "the plates of other labs that it was adapted to",
}


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
        Two sentences, and the numbers as (value, what, 95 % interval): in domain, unadapted and of the best method, as
        far as they are defined; on held-out plates of the targets, or on the adapted ones where none is held out.
    """
    split = next(
        (
            split
            for split in (HELD_OUT, ADAPTED)
            if _defined(summary, "unadapted", split, level) is not None
        ),
        ADAPTED,
    )
    home = _defined(summary, "in_domain", VALIDATION, level)
    away = _defined(summary, "unadapted", split, level)
    candidates = _candidates(summary, split, level)
    best = candidates.loc[candidates["value"].idxmax()] if len(candidates) else None
    rows = [
        (home, "at home: on a held-out plate of the training lab (in domain)"),
        (away, "in other labs, with the classifier as it is (unadapted)"),
    ]
    if best is not None:
        among = f", the best of {len(candidates)} methods" if len(candidates) > 1 else ""
        rows.append((best, f"in other labs, with {method_name(best['method'])}{among}"))
    numbers = [
        (f"{100 * row['value']:.1f} %", words, _interval(row))
        for row, words in rows
        if row is not None
    ]
    if best is None or away is None:
        return "", numbers
    return _sentences(summary, best, len(candidates), away, split, level), numbers


def scope(plates: pd.DataFrame, quality: pd.DataFrame, pairs: list[tuple[str, str]]) -> str:
    """Say in a sentence or two what the numbers are about: labs, plates and compounds.

    Parameters
    ----------
    plates
        Plates that take part: Metadata_Source and Metadata_Plate.
    quality
        One row a planned site, with its compound and mechanism.
    pairs
        Training source and target of each adaptation.
    """
    trained, targets = ({pair[side] for pair in pairs} for side in (0, 1))
    labelled = quality[quality["Metadata_moa"].notna()]
    said = f"{len(plates[PLATE_KEYS].drop_duplicates())} plates with "
    said += f"{labelled['Metadata_JCP2022'].nunique()} compounds of {labelled['Metadata_moa'].nunique()} mechanisms."
    if not pairs:
        return said
    if trained == targets:
        return f"Trained on each of {named(trained)} and tested on the others. {said}"
    return f"Trained on {named(trained)}, tested on {named(targets)}. {said}"


def named(sources: set[str]) -> str:
    """Name sources in a sentence."""
    *names, last = [source_name(source) for source in sources_in_order(sources)]
    return f"{', '.join(names)} and {last}" if names else last


def _sentences(
    summary: pd.DataFrame, best: pd.Series, number: int, away: pd.Series, split: str, level: str
) -> str:
    name = method_name(best["method"])
    said = (
        f"{name}{',' * (',' in name)} names the mechanism of {100 * best['value']:.1f} % of the {level}s right on "
        f"{WHERE[split]}"
    )
    baseline = compared_with(best["method"])
    gain = score_of(summary, (ALL, ALL), best["method"], split, level, "difference", "unadapted")
    if gain is None and baseline:
        gain = score_of(summary, (ALL, ALL), best["method"], split, level, "difference", baseline)
    if gain is None or np.isnan(gain["value"]):
        return f"{said}, against {100 * away['value']:.1f} % of the classifier as it is. The difference was not tested."
    plain = gain["baseline"] == "unadapted"
    against = "the classifier as it is" if plain else method_name(gain["baseline"])
    points = f"{100 * abs(gain['value']):.1f} points {'more' if gain['value'] >= 0 else 'less'} than {against}"
    if np.isnan(gain["low"]):
        return f"{said}, {points}. There is no interval to say how sure that is."
    clear = gain["low"] > 0 or gain["high"] < 0
    sure = "That is clear on these compounds" if clear else "That is within chance"
    interval = f"95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} points"
    chosen = "; the best of several methods looks a little better than it is" if number > 1 else ""
    return f"{said}, {points}. {sure} ({interval}){chosen}."


def _candidates(summary: pd.DataFrame, split: str, level: str) -> pd.DataFrame:
    """Accuracies of the methods that one could choose, over all pairs."""
    return summary[
        (summary["metric"] == "accuracy")
        & (summary["level"] == level)
        & (summary["train_source"] == ALL)
        & (summary["split"] == split)
        & ~summary["method"].isin([*NOT_CHOSEN, "unadapted"])
    ].dropna(subset="value")


def _defined(summary: pd.DataFrame, method: str, split: str, level: str) -> pd.Series | None:
    row = score_of(summary, (ALL, ALL), method, split, level)
    return None if row is None or np.isnan(row["value"]) else row


def _interval(row: pd.Series) -> str:
    if np.isnan(row["low"]):
        return "no interval"
    return f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
