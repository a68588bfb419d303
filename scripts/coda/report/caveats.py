"""What to keep in mind with the findings: known traps, each told only where these data fall into it."""

import pandas as pd

from coda.columns import source_name, sources_in_order
from coda.evaluation.significance import TESTS
from coda.methods import method_name

KEYS = ["Metadata_Source", "Metadata_Batch"]


def caveats(
    summary: pd.DataFrame, plates: pd.DataFrame, quality: pd.DataFrame, simulated: bool = False
) -> list[str]:
    """Tell the traps that the reader of this run should know.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    plates
        Plates that take part: Metadata_Source, Metadata_Batch, Metadata_Plate and subset.
    quality
        One row a planned site with its status, well and compound.
    simulated
        Whether the images are drawn by this workflow.
    """
    said = [
        "All images are simulated. The numbers show that the workflow runs and what it would tell; they say nothing "
        "about real plates."
        if simulated
        else "",
        "The in-domain plate also chose the epochs of foundation and classifier, so its accuracy leans high.",
        *_shared_batches(plates),
        _positions(quality),
        f"{TESTS} So an interval clear of zero need not come with a small p.",
        _oracle(summary),
        _seeds(summary),
        _lost(quality),
    ]
    return [note for note in said if note]


def shared_batches(plates: pd.DataFrame) -> pd.DataFrame:
    """Plates kept out whose batch also has plates that train or are adapted to: their rows of `plates`."""
    trained = pd.MultiIndex.from_frame(plates.loc[plates["subset"] == "train", KEYS])
    kept = plates[plates["subset"] == "validation"]
    return kept[pd.MultiIndex.from_frame(kept[KEYS]).isin(trained)]


def _shared_batches(plates: pd.DataFrame) -> list[str]:
    rows = shared_batches(plates)
    if rows.empty:
        return []
    of = rows.groupby("Metadata_Source")["Metadata_Plate"].agg(", ".join)
    named = "; ".join(
        f"{of[source]} of {source_name(source)}" for source in sources_in_order(of.index)
    )
    kept = int((plates["subset"] == "validation").sum())
    return [
        f"Of the {kept} plates kept out, {len(rows)} shared their batch with plates that train or are adapted to: "
        f"{named}. There, kept out means another plate and not another batch, and accuracies lean high."
    ]


def _positions(quality: pd.DataFrame) -> str:
    """Say how many labelled compounds never change their wells: then position tells the mechanism."""
    labelled = quality[quality["Metadata_moa"].notna()]
    wells = labelled.groupby(["Metadata_JCP2022", "Metadata_Source", "Metadata_Plate"])[
        "Metadata_Well"
    ].agg(lambda names: tuple(sorted(set(names))))
    layouts = wells.groupby("Metadata_JCP2022").nunique()
    if layouts.empty or len(wells) == len(layouts):
        return ""
    fixed = int((layouts == 1).sum())
    if not fixed:
        return ""
    return (
        f"{fixed} of {len(layouts)} labelled compounds stand in the same wells on every plate, so a model can read the "
        "position on the plate in place of the cells; no method here is protected against that. The control that "
        "sees the position only tells how far that would lead."
    )


def _oracle(summary: pd.DataFrame) -> str:
    if "oracle" not in set(summary["method"]):
        return ""
    return (
        f"The method {method_name('oracle').lower()} is shown on the plate kept out, which also chose its epochs, so "
        "its accuracy leans high."
    )


def _seeds(summary: pd.DataFrame) -> str:
    seeds = int(summary["seeds"].max())
    if seeds == 1:
        return (
            "One seed of training: the intervals hold the spread between wells, the tests (p) that between compounds, "
            "and neither any between runs."
        )
    if seeds < 5:
        return f"{seeds} seeds of training: the intervals resample them too, but few runs tell little of their spread."
    return ""


def _lost(quality: pd.DataFrame) -> str:
    lost = int((quality["status"] != "ok").sum())
    return (
        f"Of {len(quality):,} planned sites {lost:,} ({100 * lost / len(quality):.1f} %) were lost; "
        "they count nowhere."
        if len(quality)
        else ""
    )
