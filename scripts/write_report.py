"""Put everything a reader looks at into one HTML file."""

from pathlib import Path

import pandas as pd
from coda.config import pairs
from coda.evaluation.coverage_table import read_coverage
from coda.evaluation.embedding_scores import read_representation
from coda.evaluation.experiment_scores import read_experiment_scores
from coda.evaluation.recommendation import read_recommendations
from coda.evaluation.scores import read_scores
from coda.files import read_table
from coda.logs import reported
from coda.report.caveats import caveats
from coda.report.findings import findings
from coda.report.flattery import beaten_by_controls, caution, flattery, on_new_compounds
from coda.report.front import accuracies_by_lab, front_page, meaning, scope
from coda.report.input_notes import doubts
from coda.report.page import Front, write_report
from coda.report.plate_by_plate import plate_by_plate
from coda.report.recommendation import recommended
from coda.report.sections import opening, report_sections
from coda.report.weak_points import weak_points
from coda.report.words import glossary

with reported(snakemake.log[0]):
    config = snakemake.params.config
    summary = read_scores(snakemake.input.summary)
    representation = read_representation(snakemake.input.representation)
    quality = pd.concat([read_table(path) for path in snakemake.input.quality])
    plates = read_table(snakemake.input.plates)
    filters = [read_table(path) for path in snakemake.input.filters]
    filters = pd.concat(filters) if filters else None
    experiments = snakemake.input.get("experiments")
    experiments = read_experiment_scores(experiments) if experiments else None
    # The figures of plates lie in a folder of their source.
    folders = [sorted(path.glob("*.png")) or [path] for path in map(Path, snakemake.input.figures)]
    figures = [str(path) for paths in folders for path in paths]
    warnings = read_table(snakemake.input.warnings)
    gains = [
        read_table(path).assign(train_source=source, target_source=target)
        for (source, target), path in zip(
            snakemake.params.pairs, snakemake.input.gains, strict=True
        )
    ]
    numbers_of_gains = ["before", "after", "gain", "low", "high"]
    gains = pd.concat(gains).astype(dict.fromkeys(numbers_of_gains, float)) if gains else None
    level = config["figures"]["level"]
    headline, numbers = front_page(summary, level)
    write_report(
        snakemake.output.report,
        "Does a classifier of mechanisms work in another lab?",
        findings(summary, representation, level),
        caveats(
            summary,
            plates,
            quality,
            filters,
            warnings,
            config["consensus"]["balanced"],
        ),
        report_sections(
            summary,
            representation,
            quality,
            plates,
            snakemake.params.figures,
            figures,
            config,
            experiments,
            filters,
            read_coverage(snakemake.input.coverage),
        ),
        Front(
            simulated="simulation" in config,
            headline=headline,
            meaning=meaning(summary, level),
            scope=scope(plates, quality, pairs(config)),
            caution=caution(summary, experiments, level),
            plates=plate_by_plate(read_scores(snakemake.input.by_plate), summary, level),
            flattery=flattery(
                summary, plates, quality, set(config["train_sources"]), experiments, level
            ),
            weak=weak_points(summary, representation, gains, snakemake.params.after, level),
            controls=beaten_by_controls(summary, level),
            measured=f"Share of the {level}s whose mechanism of action is named right, with 95 % intervals:",
            numbers=[*numbers, *on_new_compounds(summary, experiments, level)],
            figures=opening(snakemake.params.figures, figures),
            tables=accuracies_by_lab(summary, plates, level),
            words=glossary(config["methods"]),
            advice=recommended(read_recommendations(snakemake.input.recommendation)),
        ),
        doubts(warnings),
        snakemake.params.explorer,
    )
