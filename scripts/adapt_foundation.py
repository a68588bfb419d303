"""Step 3: adapt a foundation to a target, without labels."""

from functools import partial

from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.logs import reported
from coda.methods import COMPOSED
from coda.training.adaptation_data import data_settings
from coda.training.compute import Machine
from coda.training.model_card import images_of
from coda.training.pretrain import FoundationJob, train_foundation
from coda.training.settings import WatchSettings

with reported(snakemake.log[0]):
    source, target, method = (snakemake.wildcards[name] for name in ("source", "target", "method"))
    experiment = snakemake.params.get("experiment", "standard")
    settings = dict(snakemake.params.settings)
    settings["data"] = data_settings(COMPOSED[method].adaptation, settings["data"])
    filters = snakemake.input.get("filters")
    job = FoundationJob(
        crops=list(snakemake.input.crops),
        home=list(snakemake.input.home),
        start=snakemake.input.networks,
        outputs=dict(snakemake.output.items()),
        images=images_of(snakemake.config),
        watch=WatchSettings(
            **snakemake.config["watch"], folder=snakemake.log[0].removesuffix(".log")
        ),
        settings=settings,
        seed=int(snakemake.wildcards.seed),
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ).spread(snakemake.config["compute"]["nodes"], snakemake.resources.get("mpi")),
        what=f"adapt {source} to {target} ({method}, {experiment})",
        choice=snakemake.input.get("choice"),
        task_model=snakemake.input.get("task_model"),
        statistics=snakemake.input.get("statistics"),
        open_crops=partial(HarmonisedStore, filters=filters) if filters else CropStore,
    )
    train_foundation(job)
