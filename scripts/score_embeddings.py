"""Score the features of every method: retrieval, mixing of batches, separation of mechanisms."""

from coda.files import read_table, write_table
from coda.reporting import reported
from coda.representation import score_embeddings

with reported(snakemake.log[0]):
    scores = score_embeddings(
        snakemake.input.profiles,
        read_table(snakemake.input.plates),
        snakemake.params.replicates,
        snakemake.params.seed,
    )
    write_table(scores, snakemake.output.representation)
