"""What stands in the report: its sections, their figures with captions, their tables."""

from pathlib import Path

import pandas as pd

from coda.findings import accuracy_frame
from coda.report import Section, settings_table, versions_table

CAPTIONS = Path(__file__).parents[2] / "report"
SPLITS = {
    "adapted": "plates that adaptation saw, without their labels",
    "held_out": "the plate kept out of adaptation",
}


def report_sections(
    summary: pd.DataFrame,
    quality: pd.DataFrame,
    plates: pd.DataFrame,
    folder: str,
    figures: list[str],
    config: dict,
) -> list[Section]:
    """Arrange everything a reader looks at.

    Parameters
    ----------
    summary
        `coda.comparison.Evaluation.summary`.
    quality
        One row a planned site, with its status and ``Quality_*`` columns.
    plates
        The plates that take part, with their subset.
    folder
        Where the figures lie.
    figures
        PNG files below `folder`.
    config
        The resolved config.
    """
    level = config["figures"]["level"]
    stems = {Path(path).relative_to(folder).with_suffix("").as_posix(): path for path in figures}

    def drawn(*kinds: str) -> list[tuple[str, str]]:
        """Figures of the given kinds, each with its caption and what it shows."""
        return [
            (path, f"{_subject(stem)}{caption(kind)}")
            for kind in kinds
            for stem, path in stems.items()
            if stem.split("/")[0] == kind
        ]

    def caption(kind: str) -> str:
        path = CAPTIONS / f"{kind}.rst"
        return " ".join(path.read_text().split())

    results = [
        (
            accuracy_frame(summary, split, level),
            f"Accuracy per {level} on {words}, with 95 % intervals.",
        )
        for split, words in SPLITS.items()
        if (summary["split"] == split).any()
    ]
    full = summary[summary["baseline"].isna() & (summary["train_source"] != "all")]
    metrics = full[full["level"] == level].pivot_table(
        index=["train_source", "target_source", "split", "method"], columns="metric", values="value"
    )
    return [
        Section("Results", figures=drawn("accuracy", "confusion", "embedding"), tables=results),
        Section("Data", figures=drawn("crops", "sites_lost"), tables=[_plates(plates, quality)]),
        Section("Training", figures=drawn("training")),
        Section(
            "Metrics",
            text="metrics.csv beside this file has every value with its interval, per image, well and compound.",
            tables=[
                (metrics.round(3).reset_index(), f"All metrics per {level}, means over seeds.")
            ],
        ),
        Section("Quality of the plates", figures=drawn("quality")),
        Section("Settings", tables=[(settings_table(config), "The resolved config.")]),
        Section("Versions", tables=[(versions_table(), "Software that made this report.")]),
    ]


def _subject(stem: str) -> str:
    """Say which source, pair or plate a figure is about, from its name."""
    words = stem.split("/")[1:]
    if not words:
        return ""
    return " ".join(words).replace("_to_", " to ").replace("_seed_", ", seed ") + ". "


def _plates(plates: pd.DataFrame, quality: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Count the sites of each plate: planned, lost and flagged."""
    keys = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate"]
    counts = (
        quality.assign(
            lost=quality["status"] != "ok",
            flagged=(quality["status"] == "ok") & ~quality["Quality_ok"].eq(True),
        )
        .groupby(keys, as_index=False)
        .agg(sites=("status", "size"), lost=("lost", "sum"), flagged=("flagged", "sum"))
    )
    table = plates[[*keys, "subset"]].merge(counts, on=keys, how="left")
    table.columns = ["source", "batch", "plate", "subset", "sites", "lost", "flagged"]
    return table, "Plates that took part. Flagged sites are kept but not trained on."
