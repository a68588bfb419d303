"""Step 2: train the task model on a frozen foundation."""

from coda.files import read_table
from coda.gallery.training_classes import expected_classes
from coda.logs import reported
from coda.training.classify import train_classifier
from coda.training.compute import Machine
from coda.training.settings import WatchSettings

with reported(snakemake.log[0]):
    train_classifier(
        crops=list(snakemake.input.crops),
        validation=list(snakemake.input.validation),
        foundation=snakemake.input.foundation,
        expected=expected_classes(read_table(snakemake.input.compounds), snakemake.params.choose),
        outputs=dict(snakemake.output.items()),
        watch=WatchSettings(
            **snakemake.config["watch"], folder=snakemake.log[0].removesuffix(".log")
        ),
        settings=snakemake.params.settings,
        shuffled=snakemake.params.shuffled,
        seed=int(snakemake.wildcards.seed),
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ),
        what=f"classify {snakemake.wildcards.source}",
        choice=snakemake.input.get("choice"),
    )
