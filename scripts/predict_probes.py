"""Predict from embeddings by simple classifiers, in place of the task model."""

from coda.evaluation.probes import predict_probe
from coda.files import read_table, write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    training = read_table(snakemake.input.training)
    for name, method in snakemake.params.probes.items():
        predictions = predict_probe(
            training=training,
            target=read_table(snakemake.input[f"embeddings_{method['network']}"]),
            probe=method["probe"],
            sphered=method["sphered"],
            knn=snakemake.params.knn,
        )
        write_table(predictions, snakemake.output[name])
