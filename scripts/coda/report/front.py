"""The first screen of the report: what was found and how sure it is, three numbers, and what they are about."""

import numpy as np
import pandas as pd

from coda.columns import (
    ADAPTED,
    HELD_OUT,
    PLATE_KEYS,
    VALIDATION,
    source_name,
    sources_in_order,
)
from coda.evaluation.estimates import ALL
from coda.methods import compared_with, method_name
from coda.report.findings import NOT_CHOSEN
from coda.report.tables import labs_frame, score_of
from coda.report.words import HOME, explained

WHERE = {
    HELD_OUT: "held-out plates of other labs",
    ADAPTED: "the plates of other labs that it was adapted to",
}
PLATES = {HELD_OUT: "held-out plates", ADAPTED: "adapted plates"}
NAMED = 4  # most sources whose plates the first screen names


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
        A few sentences, and the numbers as (value, what, 95 % interval): at home, unadapted and of the best method, as
        far as they are defined; on held-out plates of the targets, or on the adapted ones where none is held out.
    """
    split = tested_split(summary, level)
    home = defined(summary, "in_domain", VALIDATION, level)
    away = defined(summary, "unadapted", split, level)
    candidates = candidates_of(summary, split, level)
    best = candidates.loc[candidates["value"].idxmax()] if len(candidates) else None
    rows = [
        (home, f"{HOME}: on a held-out plate of the training lab"),
        (away, "in other labs, with the classifier as it is (unadapted)"),
    ]
    if best is not None:
        # Unadapted is one of the methods too.
        among = f", the best of {len(candidates) + 1} methods" if len(candidates) > 1 else ""
        rows.append((best, f"in other labs, with {method_name(best['method'])}{among}"))
    numbers = [(percent(row), words, interval_text(row)) for row, words in rows if row is not None]
    if best is None or away is None:
        return "", numbers
    said = [
        *_gain(summary, best, len(candidates), home, away, split, level),
        _against_home(best, home),
    ]
    return " ".join(filter(None, said)), numbers


def tested_split(summary: pd.DataFrame, level: str) -> str:
    """Choose the plates that the first screen is about: held-out ones of the targets where there are any."""
    held_out = defined(summary, "unadapted", HELD_OUT, level)
    return ADAPTED if held_out is None else HELD_OUT


def best_method(summary: pd.DataFrame, level: str) -> str | None:
    """Name the method with the highest accuracy on the plates that the first screen is about."""
    candidates = candidates_of(summary, tested_split(summary, level), level)
    return candidates.loc[candidates["value"].idxmax(), "method"] if len(candidates) else None


def meaning(summary: pd.DataFrame, level: str) -> str:
    """Say what the best method does, where that takes words."""
    best = best_method(summary, level)
    what = explained(best) if best else ""
    return f"{method_name(best)}: {what}." if what else ""


def scope(plates: pd.DataFrame, quality: pd.DataFrame, pairs: list[tuple[str, str]]) -> str:
    """Say in a sentence or two what the numbers are about: labs, plates and compounds.

    Parameters
    ----------
    plates
        Plates that take part: Metadata_Source, Metadata_Plate and subset.
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
    on = held_out_plates(plates) if len(trained | targets) <= NAMED else {}
    return f"Trained on {named(trained, on)}, tested on {named(targets, on)}. {said}"


def named(sources: set[str], plates: dict[str, str] | None = None) -> str:
    """Name sources in a sentence, and their held-out plates where given."""
    plates = plates or {}
    *names, last = [
        source_name(source) + (f" (held-out plate {plates[source]})" if source in plates else "")
        for source in sources_in_order(sources)
    ]
    return f"{', '.join(names)} and {last}" if names else last


def accuracies_by_lab(
    summary: pd.DataFrame, plates: pd.DataFrame, level: str = "image"
) -> list[tuple[pd.DataFrame, str]]:
    """Tabulate the accuracies of each lab, with a caption; nothing with several training sources.

    Of those, the sections have a table each.
    """
    if summary.loc[summary["train_source"] != ALL, "train_source"].nunique() != 1:
        return []
    split = tested_split(summary, level)
    table = labs_frame(summary, held_out_plates(plates), split, level)
    return [
        (table, f"{level.capitalize()}s named right on {PLATES[split]}, in %, with 95 % intervals.")
    ]


def held_out_plates(plates: pd.DataFrame) -> dict[str, str]:
    """Name the held-out plates of each source."""
    held_out = plates[plates["subset"] == VALIDATION].groupby("Metadata_Source")["Metadata_Plate"]
    return held_out.agg(lambda names: ", ".join(sorted(set(names)))).to_dict()


def _gain(
    summary: pd.DataFrame,
    best: pd.Series,
    number: int,
    home: pd.Series | None,
    away: pd.Series,
    split: str,
    level: str,
) -> list[str]:
    name = method_name(best["method"])
    at_home = (
        f"{HOME.capitalize()} the classifier names the mechanism of {100 * home['value']:.0f} % of the {level}s right. "
        if home is not None
        else ""
    )
    said = (
        f"{at_home}On {WHERE[split]} it names {100 * away['value']:.0f} % right as it is, and "
        f"{100 * best['value']:.0f} % with {name}"
    )
    baseline = compared_with(best["method"])
    gain = score_of(summary, (ALL, ALL), best["method"], split, level, "difference", "unadapted")
    if gain is None and baseline:
        gain = score_of(summary, (ALL, ALL), best["method"], split, level, "difference", baseline)
    if gain is None or np.isnan(gain["value"]):
        return [f"{said}. The difference was not tested."]
    plain = gain["baseline"] == "unadapted"
    what = "gain" if gain["value"] >= 0 else "loss"
    over = "" if plain else f" over {method_name(gain['baseline'])}"
    points = f"{said}. The {what} of {100 * abs(gain['value']):.1f} points{over}"
    if np.isnan(gain["low"]):
        return [f"{points} has no interval to say how sure it is."]
    sure = (
        "is clear on these compounds" if gain["low"] > 0 or gain["high"] < 0 else "is within chance"
    )
    interval = f"95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} points"
    chosen = "; the best of several methods looks a little better than it is" if number > 1 else ""
    return [f"{points} {sure} ({interval}){chosen}."]


def _against_home(best: pd.Series, home: pd.Series | None) -> str:
    """Say how the best method stands to the accuracy at home."""
    if home is None or np.isnan(home["low"]) or np.isnan(best["low"]):
        return ""
    if best["low"] <= home["high"] and home["low"] <= best["high"]:
        return f"Whether that is as good as {HOME} is open: the intervals overlap."
    words = "below" if best["value"] < home["value"] else "above"
    return f"That is {100 * abs(home['value'] - best['value']):.1f} points {words} {HOME}."


def candidates_of(summary: pd.DataFrame, split: str, level: str) -> pd.DataFrame:
    """Accuracies of the methods that one could choose, over all pairs."""
    return summary[
        (summary["metric"] == "accuracy")
        & (summary["level"] == level)
        & (summary["train_source"] == ALL)
        & (summary["split"] == split)
        & ~summary["method"].isin([*NOT_CHOSEN, "unadapted"])
    ].dropna(subset="value")


def defined(summary: pd.DataFrame, method: str, split: str, level: str) -> pd.Series | None:
    """Give the accuracy of a method over all pairs, None where it is undefined."""
    row = score_of(summary, (ALL, ALL), method, split, level)
    return None if row is None or np.isnan(row["value"]) else row


def percent(row: pd.Series) -> str:
    """Write an accuracy in percent."""
    return f"{100 * row['value']:.1f} %"


def interval_text(row: pd.Series, over: str = "") -> str:
    """Write the interval of an accuracy in percent, as far as there is one; over ``"_compounds"`` or wells."""
    if np.isnan(row[f"low{over}"]):
        return "no interval"
    return f"{100 * row[f'low{over}']:.1f} to {100 * row[f'high{over}']:.1f}"
