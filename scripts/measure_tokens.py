"""Measure the tokens of the training source, which those of a target are aligned to."""

from coda.machine import Machine
from coda.reporting import reported
from coda.tokens import measure_tokens

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
