"""Adapt the supervised baseline to a target by TENT, without labels."""

from coda.logs import reported
from coda.training.compute import Machine
from coda.training.tent import adapt_supervised

with reported(snakemake.log[0]):
    source, target = snakemake.wildcards.source, snakemake.wildcards.target
    adapt_supervised(
        crops=list(snakemake.input.crops),
        weights=snakemake.input.weights,
        outputs=dict(snakemake.output.items()),
        settings=snakemake.params.settings,
        seed=int(snakemake.wildcards.seed),
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ),
        what=f"adapt {source} to {target} (supervised_tent)",
    )
