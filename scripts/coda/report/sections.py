"""Sections of the report, with their figures, captions and tables."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from coda.columns import (
    ADAPTED,
    HELD_OUT,
    PLATE_KEYS,
    SPLIT_NAMES,
    VALIDATION,
    WELL_KEYS,
    source_name,
    sources_in_order,
)
from coda.config import pairs
from coda.evaluation.estimates import ALL
from coda.evaluation.significance import TESTS
from coda.methods import in_order, method_name
from coda.report.experiment_findings import experiment_findings
from coda.report.findings import CONTROLS
from coda.report.front import named
from coda.report.page import Section, settings_table, versions_table
from coda.report.prediction_sets import set_findings, set_table
from coda.report.tables import capital, controls_frame, methods_frame, pairs_frame, undefined_frame

CAPTIONS = Path(__file__).parents[3] / "report"
# Captions of the first screen, without the terms that the sections explain.
OPENING = {
    "accuracy": "How often each method is right. Full bars: plates that it was adapted to, without their labels. Pale "
    "bars: a plate that it never saw. Line: at home. Dotted line: always naming the commonest mechanism. Star: differs "
    "from what it was before adaptation, tested over compounds. Controls do not see the shape of cells.",
    "harmonised_crops": "What the cells looked like: a negative control, where both labs have one, and a compound, a "
    "column for each channel. Above: the other lab as it is. Middle: the same crop harmonised, with the sharpness and "
    "noise of the training lab; noise is amplified too, and what the microscope did not resolve, such as fine fibres, "
    "does not come back. Below: other cells with the same treatment in the training lab.",
}
SPLITS = {
    ADAPTED: "the adapted plates (transductive: seen without their labels)",
    HELD_OUT: "the held-out plate",
}


def report_sections(
    summary: pd.DataFrame,
    representation: pd.DataFrame,
    quality: pd.DataFrame,
    plates: pd.DataFrame,
    folder: str,
    figures: list[str],
    config: dict,
    experiments: pd.DataFrame | None = None,
    filters: pd.DataFrame | None = None,
    coverage: pd.DataFrame | None = None,
) -> list[Section]:
    """Arrange the sections of the report.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    representation
        `coda.evaluation.embedding_scores.score_embeddings`.
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
    experiments
        `coda.evaluation.experiment_scores.score_experiments`, where the config switches any on.
    filters
        `coda.crops.harmonisation.save_harmonisations` of all pairs, where methods are harmonised.
    coverage
        `coda.predict.coverage_scores.score_coverage`.
    """
    level = config["figures"]["level"]
    stems = {Path(path).relative_to(folder).with_suffix("").as_posix(): path for path in figures}

    def drawn(*kinds: str) -> list[tuple[str, str]]:
        """Figures of the given kinds, each with its caption and what it shows."""
        return [
            (path, f"{_subject(stem)}{_caption(kind)}{_behind(path, stem)}")
            for kind in kinds
            for stem, path in stems.items()
            if stem.split("/")[0] == kind
        ]

    def folded(*kinds: str) -> dict[str, list[tuple[str, str]]]:
        """Figures of the given kinds, gathered by what they are about: a pair or a plate."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for path, words in drawn(*kinds):
            stem = Path(path).relative_to(folder).with_suffix("").as_posix()
            about = _subject(stem.rsplit("_", 1)[0] if stem.startswith("quality/") else stem)
            groups.setdefault(about.rstrip(". "), []).append((path, words))
        return groups

    return [
        Section(
            "Data",
            _data_words(quality),
            figures=drawn("crops"),
            tables=[_plates(plates, quality, pairs(config)), *_compounds(quality)],
        ),
        Section(
            "Quality",
            _lost_words(quality),
            figures=_of_sources(drawn("sites_lost"), losing(quality)),
            folded=folded("quality"),
        ),
        *_harmonisation(filters, folded),
        Section("Training", figures=drawn("training")),
        Section(
            "Results",
            "metrics.csv beside this file has every run by itself, summary.csv the means over seeds and pairs, "
            "both per image, well and compound, with intervals and tests; representation.csv has the scores "
            "of the features.",
            figures=drawn("accuracy", "matrix", "slopes"),
            tables=[
                *_accuracies(summary, level),
                *_metrics(summary, level),
                _features(representation),
            ],
        ),
        *_prediction_sets(coverage, drawn),
        Section(
            "Pair by pair",
            folded=folded("gains", "confusion", "calibration", "embedding", "attention"),
        ),
        *_experiments(experiments, level, drawn),
        *_controls(summary, level),
        Section("Settings", tables=[(settings_table(config), "The resolved config.")]),
        Section("Versions", tables=[(versions_table(), "Software that made this report.")]),
    ]


def opening(folder: str, figures: list[str]) -> list[tuple[str, str]]:
    """Give the figures of the first screen: accuracies, and images before and after harmonisation, of the first."""
    chosen: dict[str, tuple[str, str]] = {}
    for path in figures:
        stem = Path(path).relative_to(folder).with_suffix("").as_posix()
        kind = stem.split("/")[0]
        if kind in OPENING and kind not in chosen:
            chosen[kind] = (path, f"{_subject(stem)}{OPENING[kind]}")
    return list(chosen.values())


def _caption(kind: str) -> str:
    return " ".join((CAPTIONS / f"{kind}.rst").read_text().split())


def _subject(stem: str) -> str:
    """Say which source, pair or plate a figure is about, from its name."""
    words = stem.split("/")[1:]
    if not words:
        return ""
    said = " ".join(words).replace("_to_", " to ").replace("_seed_", ", seed ")
    return capital(re.sub(r"\bsource_(?=\d)", "source ", said)) + ". "


def _behind(path: str, stem: str) -> str:
    return (
        f" The table behind it: figures/{stem}.csv."
        if Path(path).with_suffix(".csv").exists()
        else ""
    )


def losing(quality: pd.DataFrame) -> list[str]:
    """Name the sources that lost sites."""
    return sources_in_order(quality.loc[quality["status"] != "ok", "Metadata_Source"])


def _lost_words(quality: pd.DataFrame) -> str:
    """Say which sources lost no site: a map of their plates would be blank."""
    whole = set(quality["Metadata_Source"]) - set(losing(quality))
    if not whole:
        return ""
    return f"No site of {named(whole)} was lost."


def _of_sources(pictures: list[tuple[str, str]], sources: list[str]) -> list[tuple[str, str]]:
    return [(path, words) for path, words in pictures if Path(path).stem in sources]


def _data_words(quality: pd.DataFrame) -> str:
    labelled = quality[quality["Metadata_moa"].notna()]
    plates = quality[PLATE_KEYS].drop_duplicates()
    wells = labelled[WELL_KEYS].drop_duplicates()
    return (
        f"{plates['Metadata_Source'].nunique()} sources with {len(plates)} plates. "
        f"{labelled['Metadata_JCP2022'].nunique()} compounds of {labelled['Metadata_moa'].nunique()} mechanisms "
        f"of action have a label; they stand in {len(wells):,} wells with {len(labelled):,} planned sites. "
        "Wells without a label count in no score."
    )


def _accuracies(summary: pd.DataFrame, level: str) -> list[tuple[pd.DataFrame, str]]:
    """Tables of the accuracies: over all pairs with the tests, then pair by pair."""
    tables = []
    for split, words in SPLITS.items():
        if (summary["split"] == split).any():
            text = (
                f"{level.capitalize()}s named right on {words}: means over pairs with 95 % intervals; differences, on "
                "the same resamples, from unadapted or, for other classifiers, from the same one before adaptation; "
                "their p, corrected by Holm over the methods; and the pairs in which a difference is significant after "
                f"correction over all methods and pairs. {TESTS} The gap closed is defined for the task model only."
            )
            tables.append((methods_frame(summary, split, level), text))
    for train in sources_in_order(set(summary["train_source"]) - {ALL}):
        for split, words in SPLITS.items():
            frame = pairs_frame(summary, train, split, level)
            if len(frame):
                text = (
                    f"{level.capitalize()}s named right on {words}, in %, trained on {source_name(train)}; a star "
                    "marks a significant difference from what the method is compared with, after correction."
                )
                tables.append((frame, text))
    return tables


def _metrics(summary: pd.DataFrame, level: str) -> list[tuple[pd.DataFrame, str]]:
    rows = summary[
        summary["baseline"].isna() & (summary["train_source"] == ALL) & (summary["level"] == level)
    ]
    rows = rows[rows["method"] != "chance"]
    tables = []
    for split, words in SPLIT_NAMES.items():
        part = rows[rows["split"] == split]
        if part.empty:
            continue
        table = part.pivot_table(
            index="method", columns="metric", values="value", sort=False, dropna=False
        )
        table = _in_digits(table.loc[in_order(table.index)].rename(method_name))
        text = f"All metrics per {level}, {words}: means over seeds and pairs. Undefined values are empty, see below."
        tables.append((table.rename_axis("method").reset_index(), text))
    undefined = undefined_frame(summary)
    if len(undefined):
        tables.append((undefined, "Why values or intervals are empty, at all levels."))
    return tables


def _features(representation: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    # A mean over some of the pairs only could not be compared with the others.
    means = representation.groupby(["method", "metric"], sort=False)["value"]
    means = means.mean(skipna=False).unstack(sort=False)
    chance = representation.pivot_table(columns="metric", values="chance", sort=False)
    table = means.loc[in_order(means.index)].rename(method_name)
    table = pd.concat([table, chance.rename({"chance": "by chance"})])[list(means.columns)]
    empty = representation[representation["value"].isna()]
    why = "".join(
        f" Empty {', '.join(metrics).replace('_', ' ')} of {method_name(method)}: {reason}."
        for (method, reason), metrics in empty.groupby(["method", "reason"], sort=False)["metric"]
        .unique()
        .items()
    )
    return _in_digits(table).rename_axis("method").reset_index(), _caption("features") + why


def _in_digits(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers with three decimals, undefined ones empty; columns in words."""
    text = table.map(lambda value: "" if pd.isna(value) else f"{value:.3f}")
    return text.rename(columns=lambda name: name.replace("_", " ")).rename_axis(columns=None)


def _harmonisation(
    filters: pd.DataFrame | None, folded: Callable[..., dict[str, list[tuple[str, str]]]]
) -> list[Section]:
    """How the targets' plates were harmonised, where methods are."""
    if filters is None:
        return []
    words = (
        "Harmonised methods see each plate of a target through a filter that gives its images the spectra of the "
        "training source's. Look at the crops first: the middle row should have the cells of the upper one with "
        "the sharpness and noise of the lower one."
    )
    pictures = folded("harmonised_crops", "harmonisation")
    return [Section("Harmonisation", words, folded=pictures, tables=[_filters(filters)])]


def _filters(filters: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Count plates, control wells and what is undone, a row a pair."""
    plates = filters.drop_duplicates(["training_source", *PLATE_KEYS])
    pairs = plates.groupby(["training_source", "Metadata_Source"], sort=False)
    table = pairs.agg(
        plates=("Metadata_Plate", "size"),
        controls=("control_wells", "mean"),
        undone=("strength", "mean"),
    ).reset_index()
    table["undone"] = [f"{100 * share:.0f} %" for share in table["undone"]]
    for column in ("training_source", "Metadata_Source"):
        table[column] = table[column].map(source_name)
    table.columns = ["trained on", "target", "plates", "control wells a plate", "difference undone"]
    return table, (
        "Plates that were harmonised. Undone is the share of the difference between the spectra of the two labs that "
        "chance does not explain, as a mean over plates."
    )


def _prediction_sets(
    coverage: pd.DataFrame | None, drawn: Callable[..., list[tuple[str, str]]]
) -> list[Section]:
    """Whether sets of mechanisms hold the right one as often as they promise."""
    if coverage is None or coverage.empty:
        return []
    table = (
        set_table(coverage),
        (
            "Sets of compounds on adapted plates, means over seeds. Intervals (95 %) are as wide as the number of "
            "compounds makes them. Compounds with an empty set, or one of more than half of the mechanisms, have no "
            "call."
        ),
    )
    return [Section("Prediction sets", set_findings(coverage), drawn("coverage"), [table])]


def _experiments(
    experiments: pd.DataFrame | None, level: str, drawn: Callable[..., list[tuple[str, str]]]
) -> list[Section]:
    """Answers of the experiments besides the standard run, where the config asks for any."""
    if experiments is None:
        return []
    figures = drawn("plates_curve", "online", "new_compounds", "class_mix")
    return [Section("Experiments", "\n\n".join(experiment_findings(experiments, level)), figures)]


def _controls(summary: pd.DataFrame, level: str) -> list[Section]:
    there = [name for name in CONTROLS if name in set(summary["method"])]
    if not there:
        return []
    table = controls_frame(summary, there, level)
    caption = f"Points by which {level}s named right are above each control, with intervals over compounds."
    return [Section("Controls", _caption("controls"), tables=[(table, caption)])]


def _plates(
    plates: pd.DataFrame, quality: pd.DataFrame, adaptations: list[tuple[str, str]]
) -> tuple[pd.DataFrame, str]:
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
    table["subset"] = [
        _used(source, subset, adaptations)
        for source, subset in zip(table["Metadata_Source"], table["subset"], strict=True)
    ]
    table["Metadata_Source"] = table["Metadata_Source"].map(source_name)
    table.columns = ["source", "batch", "plate", "used", "sites", "lost", "flagged"]
    return table, "Plates that took part. Flagged sites are kept but not trained on."


def _used(source: str, subset: str, adaptations: list[tuple[str, str]]) -> str:
    """Say what a plate is used for, by the pairs that its source is in."""
    if subset == VALIDATION:
        return "held out"
    words = ("trained on", "adapted to")
    said = [
        word
        for word, sources in zip(words, zip(*adaptations, strict=True), strict=False)
        if source in sources
    ]
    return ", ".join(said) or words[0]


def _compounds(quality: pd.DataFrame) -> list[tuple[pd.DataFrame, str]]:
    """List the labelled compounds by mechanism, with the wells that they stand in."""
    labelled = quality[quality["Metadata_moa"].notna()]
    if labelled.empty:
        return []
    keys = ["Metadata_moa", "Metadata_JCP2022", "Metadata_pert_iname"]
    table = (
        labelled.groupby(keys, dropna=False)
        .agg(
            plates=("Metadata_Plate", "nunique"),
            wells=("Metadata_Well", lambda names: ", ".join(sorted(set(names)))),
        )
        .reset_index()
    )
    table.columns = ["mechanism", "compound", "name", "plates", "wells"]
    return [(table, "Compounds with a label, and every well in which they stand on any plate.")]
