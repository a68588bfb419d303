"""Score what was trained on one source."""

from pathlib import Path

from coda.evaluation.scores import score_source
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    paths = zip(snakemake.params.runs, snakemake.input.predictions, strict=True)
    files = [{**run, "path": path} for run, path in paths]
    scores = score_source(
        files,
        read_table(snakemake.input.plates),
        snakemake.params.replicates,
        snakemake.params.seed,
    )
    scores.save(Path(snakemake.output.runs).parent)
