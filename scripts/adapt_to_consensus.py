"""Adapt the supervised network to a target by the consensus of its own calls, without labels."""

from functools import partial

from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.logs import reported
from coda.training.compute import Machine
from coda.training.settings import WatchSettings
from coda.training.supervised_consensus import adapt_to_consensus

with reported(snakemake.log[0]):
    source, target, method = (snakemake.wildcards[name] for name in ("source", "target", "method"))
    filters = snakemake.input.filters
    adapt_to_consensus(
        crops=list(snakemake.input.crops),
        weights=snakemake.input.weights,
        outputs=dict(snakemake.output.items()),
        settings=snakemake.params.settings,
        seed=int(snakemake.wildcards.seed),
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ),
        what=f"adapt {source} to {target} ({method})",
        open_crops=partial(HarmonisedStore, filters=filters) if filters else CropStore,
        watch=WatchSettings(
            **snakemake.config["watch"], folder=snakemake.log[0].removesuffix(".log")
        ),
    )
