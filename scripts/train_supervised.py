"""Train the supervised baseline end to end."""

from coda.classifiers import train_classifier
from coda.machine import Machine
from coda.reporting import reported

with reported(snakemake.log[0]):
    train_classifier(
        crops=list(snakemake.input.crops),
        validation=list(snakemake.input.validation),
        outputs=dict(snakemake.output.items()),
        settings=snakemake.params.settings,
        seed=int(snakemake.wildcards.seed),
        machine=Machine(snakemake.resources.gpu, snakemake.threads, **snakemake.params.compute),
        what=f"supervise {snakemake.wildcards.source}",
    )
