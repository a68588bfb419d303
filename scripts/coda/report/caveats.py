"""What to keep in mind with the findings: known pitfalls, each listed only where it applies to these data."""

import pandas as pd

from coda.columns import PLATE_KEYS, TRAIN, VALIDATION, source_name, sources_in_order
from coda.evaluation.significance import TESTS
from coda.methods import method_name
from coda.report.findings import listed
from coda.report.input_notes import input_notes

KEYS = ["Metadata_Source", "Metadata_Batch"]
FEW = 5  # most plates named


def caveats(
    summary: pd.DataFrame,
    plates: pd.DataFrame,
    quality: pd.DataFrame,
    filters: pd.DataFrame | None = None,
    warnings: pd.DataFrame | None = None,
    balanced: bool = False,
) -> list[str]:
    """List the pitfalls that the reader of this run should know.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    plates
        Plates that take part: Metadata_Source, Metadata_Batch, Metadata_Plate and subset.
    quality
        One row a planned site with its status, well and compound.
    filters
        `coda.crops.harmonisation.save_harmonisations` of all pairs, where methods are harmonised.
    warnings
        The table of ``warnings.csv``.
    balanced
        Whether consensus methods take mechanisms to have the shares that they have in the training source.
    """
    said = [
        *([] if warnings is None else input_notes(warnings)),
        "The accuracy at home flatters: the epochs of foundation and classifier were chosen on that plate.",
        *_shared_batches(plates),
        _mix(summary, balanced),
        _seeds(summary),
        *_harmonised(filters),
        _oracle(summary),
        f"{TESTS} So an interval may exclude zero where p is not small.",
        _lost(quality),
    ]
    return [note for note in said if note]


def shared_batches(plates: pd.DataFrame) -> pd.DataFrame:
    """Rows of `plates` of held-out plates whose batch also has plates that train or are adapted to."""
    trained = pd.MultiIndex.from_frame(plates.loc[plates["subset"] == TRAIN, KEYS])
    held_out = plates[plates["subset"] == VALIDATION]
    return held_out[pd.MultiIndex.from_frame(held_out[KEYS]).isin(trained)]


def _shared_batches(plates: pd.DataFrame) -> list[str]:
    rows = shared_batches(plates)
    if rows.empty:
        return []
    of = rows.groupby("Metadata_Source")["Metadata_Plate"].agg(", ".join)
    named = "; ".join(
        f"{of[source]} of {source_name(source)}" for source in sources_in_order(of.index)
    )
    held_out = int((plates["subset"] == VALIDATION).sum())
    return [
        f"Of the {held_out} held-out plates, {len(rows)} shared their batch with plates that train or are adapted to, "
        f"so they are other plates but no other batches, and accuracies on them flatter: {named}."
    ]


def _harmonised(filters: pd.DataFrame | None) -> list[str]:
    """Say what harmonisation takes for granted, and which plates it harmonised by all wells."""
    if filters is None:
        return []
    plates = filters.drop_duplicates(["training_source", *PLATE_KEYS])
    said = (
        "Harmonised methods take negative controls to hold the same cells in both labs: where the cells differ too "
        "(another line, another density), that is removed as if microscopes made it. What sharpens also amplifies "
        "noise, up to a cap."
    )
    by_controls, by_all = (
        plates[plates["control_weight"] > 0],
        plates[plates["control_weight"] == 0],
    )
    if len(by_controls):
        counts = by_controls["control_wells"]
        several = f"{counts.min()} to {counts.max()}" if counts.nunique() > 1 else counts.min()
        said += f" Their filters rest on {several} control wells a plate."
    if by_all.empty:
        return [said]
    names = sorted(set(by_all["Metadata_Plate"]))
    return [
        said,
        f"Harmonised by all wells, not by controls: {listed(names, ', ', FEW)}. There, a plate with other treatments "
        "than the training source has is changed for it.",
    ]


def _mix(summary: pd.DataFrame, balanced: bool) -> str:
    if not balanced or not any("consensus" in name for name in summary["method"].unique()):
        return ""
    return (
        "Methods with consensus take each mechanism to have the share of compounds that it has in the training lab. "
        "Where a target holds other shares, such as half of the mechanisms only, that did harm in trials; "
        "consensus.balanced: false takes nothing for granted."
    )


def _oracle(summary: pd.DataFrame) -> str:
    if "oracle" not in set(summary["method"]):
        return ""
    return (
        f"The method {method_name('oracle').lower()} is scored on the held-out plate, on which its epochs were chosen, "
        "so its accuracy is biased upwards."
    )


def _seeds(summary: pd.DataFrame) -> str:
    seeds = int(summary["seeds"].max())
    if seeds == 1:
        return (
            "One seed of training: intervals include the spread between wells, tests (p) that between compounds, "
            "and neither that between training runs."
        )
    if seeds < 5:
        return f"{seeds} seeds of training: intervals resample them too, but so few say little about their spread."
    return ""


def _lost(quality: pd.DataFrame) -> str:
    lost = int((quality["status"] != "ok").sum())
    return (
        f"Of {len(quality):,} planned sites {lost:,} ({100 * lost / len(quality):.1f} %) were lost "
        "and are not scored."
        if len(quality)
        else ""
    )
