"""Measure the tokens of the training source, which those of a target are aligned to."""

from coda.logs import reported
from coda.training.alignment import measure_tokens
from coda.training.compute import Machine

with reported(snakemake.log[0]):
    measure_tokens(
        crops=list(snakemake.input.crops),
        foundation=snakemake.input.foundation,
        outputs=dict(snakemake.output.items()),
        settings=snakemake.params.settings,
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ),
        what=f"measure tokens of {snakemake.wildcards.source}",
    )
