"""Score how often prediction sets hold the right mechanism, at home and at each target."""

from coda.files import read_table, write_table
from coda.logs import reported
from coda.predict.coverage_scores import score_coverage

with reported(snakemake.log[0]):
    paths = zip(snakemake.params.runs, snakemake.input.predictions, strict=True)
    scores = score_coverage(
        [{**run, "path": path} for run, path in paths],
        read_table(snakemake.input.plates),
        snakemake.params.coverage,
    )
    write_table(scores, snakemake.output.coverage)
