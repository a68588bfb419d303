"""Score the features of every method: retrieval, mixing of batches, separation of mechanisms."""

from coda.evaluation.embedding_scores import score_embeddings
from coda.files import read_table, write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    scores = score_embeddings(
        snakemake.input.profiles,
        read_table(snakemake.input.plates),
        snakemake.params.replicates,
        snakemake.params.seed,
    )
    write_table(scores, snakemake.output.representation)
