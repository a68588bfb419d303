"""Score the experiments beside the standard run."""

from coda.evaluation.experiment_parts import find_pairs
from coda.evaluation.experiment_scores import score_experiments
from coda.files import read_table, write_table
from coda.logs import reported


def with_paths(described: list[dict], paths: list[str]) -> list[dict]:
    """Add to what is said of each file where it lies."""
    return [{**each, "path": path} for each, path in zip(described, paths, strict=True)]


with reported(snakemake.log[0]):
    params = snakemake.params
    pairs = find_pairs(
        with_paths(params.runs, snakemake.input.predictions),
        with_paths(params.choices, snakemake.input.choices),
        read_table(snakemake.input.plates),
    )
    scores = score_experiments(
        pairs, params.experiments, params.counts, params.replicates, params.seed
    )
    write_table(scores, snakemake.output.scores)
