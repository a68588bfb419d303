"""Adapt the supervised baseline to a target by TENT, without labels."""

from functools import partial

from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.logs import reported
from coda.training.compute import Machine
from coda.training.tent import adapt_supervised

with reported(snakemake.log[0]):
    source, target, method = (snakemake.wildcards[name] for name in ("source", "target", "method"))
    filters = snakemake.input.filters
    adapt_supervised(
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
    )
