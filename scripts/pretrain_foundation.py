"""Step 1: train a foundation on a source."""

from coda.foundation import train_foundation
from coda.machine import Machine
from coda.reporting import reported

with reported(snakemake.log[0]):
    train_foundation(
        crops=list(snakemake.input.crops),
        validation=list(snakemake.input.validation),
        outputs=dict(snakemake.output.items()),
        settings=snakemake.params.settings,
        seed=int(snakemake.wildcards.seed),
        machine=Machine(snakemake.resources.gpu, snakemake.threads, **snakemake.params.compute),
        what=f"pretrain {snakemake.wildcards.source}",
    )
