"""Score the experiments beside the standard one."""

from coda.evaluation.experiment_parts import find_pairs
from coda.evaluation.experiment_scores import score_experiments
from coda.files import read_table, write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    pairs = find_pairs(
        snakemake.input.predictions, snakemake.input.choices, read_table(snakemake.input.plates)
    )
    scores = score_experiments(
        pairs,
        snakemake.params.experiments,
        snakemake.params.counts,
        snakemake.params.replicates,
        snakemake.params.seed,
    )
    write_table(scores, snakemake.output.scores)
