"""Predict from embeddings by a simple classifier, in place of the task model."""

from coda.evaluation.probes import predict_probe
from coda.files import read_table, write_table
from coda.logs import reported
from coda.methods import COMPOSED

with reported(snakemake.log[0]):
    method = COMPOSED[snakemake.wildcards.method]
    predictions = predict_probe(
        training=read_table(snakemake.input.training),
        target=read_table(snakemake.input.predictions),
        probe=method.head.removesuffix("_sphered"),
        sphered=method.sphered,
        knn=snakemake.params.knn,
    )
    write_table(predictions, snakemake.output.predictions)
