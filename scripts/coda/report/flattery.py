"""What flatters the numbers of the first screen: compounds and wells that are known, and what needs no cells."""

import pandas as pd

from coda.columns import PLATE_KEYS, TRAIN, VALIDATION
from coda.methods import control_name, method_name
from coda.report.findings import CONTROLS, NOT_CHOSEN, listed
from coda.report.front import (
    best_method,
    candidates_of,
    defined,
    interval_text,
    percent,
    tested_split,
)
from coda.report.tables import standing
from coda.report.words import HOME

# What a control that is as right as the methods says of the plates.
MEANING = {
    "position": " The layout of the plates alone gives mechanisms away, so a method might read it, too: well position "
    "leaves traces in images."
}
NEW, KNOWN = "new_compounds", "known_compounds"


def flattery(
    summary: pd.DataFrame,
    plates: pd.DataFrame,
    quality: pd.DataFrame,
    trained: set[str],
    experiments: pd.DataFrame | None = None,
    level: str = "image",
) -> str:
    """Say that the numbers are about known compounds in known wells, and what is left with new compounds.

    Parameters
    ----------
    summary, level
        As in `coda.report.front.front_page`.
    plates, quality
        As in `coda.report.front.scope`.
    trained
        The training sources.
    experiments
        `coda.evaluation.experiment_scores.score_experiments`, where any were run.
    """
    labelled = quality[quality["Metadata_moa"].notna()].merge(plates[[*PLATE_KEYS, "subset"]])
    home = labelled["Metadata_Source"].isin(trained)
    learned = set(labelled.loc[home & (labelled["subset"] == TRAIN), "Metadata_JCP2022"])
    compounds = set(labelled["Metadata_JCP2022"])
    if not learned:
        return ""
    fixed = fixed_positions(labelled)
    count = "all" if learned == compounds else f"{len(learned & compounds)} of the"
    wells = f", and {fixed} stand in the same wells on every plate" if fixed else ""
    said = f"These numbers flatter: {count} {len(compounds)} compounds were trained on{wells}."
    if not _ran(experiments, level):
        return f"{said} How well new compounds do was not measured (experiments.run: [compounds])."
    return f"{said} {_new_compounds(summary, experiments, level)}".strip()


def on_new_compounds(
    summary: pd.DataFrame, experiments: pd.DataFrame | None, level: str = "image"
) -> list[tuple[str, str, str]]:
    """Give a number to remember, as `coda.report.front.front_page` does: how right a method is on new compounds.

    It is that of the best method, or of the best that was run on them; nothing where none was.
    """
    found = _best_on_new(summary, experiments, level)
    if found is None:
        return []
    chosen, row = found
    other = "" if chosen == best_method(summary, level) else " (the best was not run on them)"
    words = f"in other labs, on compounds not learned, with {method_name(chosen)}{other}; interval over compounds"
    return [(percent(row), words, interval_text(row, "_compounds"))]


def _best_on_new(
    summary: pd.DataFrame, experiments: pd.DataFrame | None, level: str
) -> tuple[str, pd.Series] | None:
    """Give the method to show on new compounds, and its accuracy, if any was run on them."""
    if not _ran(experiments, level):
        return None
    new = experiments[(experiments["experiment"] == NEW) & (experiments["level"] == level)]
    split = tested_split(new, level)
    chosen = _shown(summary, new, split, level)
    row = defined(new, chosen, split, level) if chosen else None
    return None if row is None else (chosen, row)


def fixed_positions(labelled: pd.DataFrame) -> int:
    """Count compounds that stand in the same wells on each of several plates, by the sites of labelled wells."""
    wells = labelled.groupby(["Metadata_JCP2022", *PLATE_KEYS])["Metadata_Well"].agg(
        lambda names: tuple(sorted(set(names)))
    )
    by_compound = wells.groupby("Metadata_JCP2022")
    return int(((by_compound.nunique() == 1) & (by_compound.size() > 1)).sum())


def _new_compounds(summary: pd.DataFrame, experiments: pd.DataFrame, level: str) -> str:
    """Give accuracies on new compounds beside those on known ones of a classifier that learned as few."""
    rows = experiments[experiments["level"] == level]
    new, known = (rows[rows["experiment"] == kind] for kind in (NEW, KNOWN))
    split = tested_split(new, level)
    shown = [("in_domain", VALIDATION, HOME), ("unadapted", split, "unadapted")]
    best, chosen = best_method(summary, level), _shown(summary, new, split, level)
    missing = ""
    if chosen:
        shown.append((chosen, split, method_name(chosen)))
        if chosen != best:
            missing = f" {method_name(best)} was not run on them: it would have to be trained once more, without them."
    parts = []
    for method, where, words in shown:
        values = [defined(rows, method, where, level) for rows in (new, known)]
        if all(value is not None for value in values):
            right, before = map(percent, values)
            parts.append(f"{words} {right} ({before} on known ones)")
    if not parts:
        return ""
    return (
        f"On new compounds, of mechanisms learned from other compounds: {'; '.join(parts)}. The classifier of this "
        f"trial learned from fewer compounds, so it is less right on known ones than the one above.{missing}"
    )


def _ran(experiments: pd.DataFrame | None, level: str) -> bool:
    """Whether new compounds were tried."""
    if experiments is None:
        return False
    return NEW in set(experiments.loc[experiments["level"] == level, "experiment"])


def _shown(summary: pd.DataFrame, new: pd.DataFrame, split: str, level: str) -> str | None:
    """Choose the method to show on new compounds: the best one, or the best of those that were run on them."""
    candidates = candidates_of(new, split, level)
    best = best_method(summary, level)
    if best is None or candidates.empty or best in set(candidates["method"]):
        return best if len(candidates) else None
    return candidates.loc[candidates["value"].idxmax(), "method"]


def caution(
    summary: pd.DataFrame, experiments: pd.DataFrame | None = None, level: str = "image"
) -> str:
    """Say in a sentence what one must know before one quotes the numbers: controls as right as methods, new compounds.

    Parameters
    ----------
    summary, experiments, level
        As in `flattery`.
    """
    split, said = tested_split(summary, level), []
    best = best_method(summary, level)
    for control in CONTROLS:
        value = defined(summary, control, split, level)
        stands = standing(summary[summary["level"] == level], control, split, NOT_CHOSEN)
        if value is not None and best and method_name(best) not in stands["above"]:
            said.append(
                f"{control_name(control)}, without the shape of cells, names {percent(value)} right"
            )
    found = _best_on_new(summary, experiments, level)
    if found:
        chosen, row = found
        other = "" if chosen == best else " with another method"
        said.append(f"on compounds that were not learned it is {percent(row)}{other}")
    return f"Read them with care: {'; '.join(said)}." if said else ""


def beaten_by_controls(summary: pd.DataFrame, level: str = "image") -> list[str]:
    """Say of each control how right it is, and which methods are not clearly above it, over compounds."""
    split = tested_split(summary, level)
    said = []
    for control in CONTROLS:
        value = defined(summary, control, split, level)
        if value is None:
            continue
        stands = standing(summary[summary["level"] == level], control, split, NOT_CHOSEN)
        if stands["below"] or stands["near"]:
            name = control_name(control).capitalize()
            said.append(
                f"{name} names {percent(value)} right, without the shape of cells. {_verdict(stands)}"
                f"{MEANING.get(control, '')}"
            )
    return said


def _verdict(stands: dict[str, list[str]]) -> str:
    """Say which methods are clearly below a control, and which not clearly above it, over compounds."""
    below, near = stands["below"], stands["near"]
    if below and not (near or stands["above"] or stands["undefined"]):
        return "Every method is clearly below it, over compounds."
    said = [f"Clearly below it, over compounds: {listed(below)}."] if below else []
    if near:
        said.append(f"Not clearly above it, over compounds: {listed(near)}.")
    return " ".join(said)
