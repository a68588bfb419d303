"""Step 1: train a foundation on a source."""

from coda.files import read_table
from coda.foundation import train_foundation
from coda.machine import Machine
from coda.model_card import images_of
from coda.reporting import reported
from coda.selection import expected_classes
from coda.settings import WatchSettings

with reported(snakemake.log[0]):
    train_foundation(
        crops=list(snakemake.input.crops),
        validation=list(snakemake.input.validation),
        classes=expected_classes(read_table(snakemake.input.compounds), snakemake.params.choose),
        outputs=dict(snakemake.output.items()),
        images=images_of(snakemake.config),
        watch=WatchSettings(
            **snakemake.config["watch"], folder=snakemake.log[0].removesuffix(".log")
        ),
        settings=snakemake.params.settings,
        seed=int(snakemake.wildcards.seed),
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ),
        what=f"pretrain {snakemake.wildcards.source}",
    )
