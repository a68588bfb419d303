"""Compare the scores of all training sources and tell the result in a table."""

from pathlib import Path

from coda.evaluation.scores import SourceScores, compare_scores
from coda.files import read_table, replacing, write_table
from coda.logs import reported
from coda.report.input_notes import input_notes
from coda.report.tables import accuracy_table

with reported(snakemake.log[0]):
    evaluation = compare_scores(
        [SourceScores.load(Path(path).parent) for path in snakemake.input.means]
    )
    write_table(evaluation.metrics, snakemake.output.metrics)
    write_table(evaluation.summary, snakemake.output.summary)
    write_table(evaluation.by_plate, snakemake.output.by_plate)
    with replacing(snakemake.output.text) as temporary:
        notes = input_notes(read_table(snakemake.input.warnings))
        temporary.write_text("\n\n".join([accuracy_table(evaluation.summary), *notes]))
