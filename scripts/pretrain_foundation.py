"""Step 1: train a foundation on a source."""

from coda.files import read_table
from coda.gallery.training_classes import expected_classes
from coda.logs import reported
from coda.training.compute import Machine
from coda.training.model_card import images_of
from coda.training.pretrain import FoundationJob, train_foundation
from coda.training.settings import WatchSettings

with reported(snakemake.log[0]):
    job = FoundationJob(
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
        ).spread(snakemake.config["compute"]["nodes"], snakemake.resources.get("mpi")),
        what=f"pretrain {snakemake.wildcards.source}",
    )
    train_foundation(job)
