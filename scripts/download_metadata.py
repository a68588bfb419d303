"""Fetch one public table."""

from pathlib import Path

from coda.reporting import reported
from coda.tables import fetch_table

with reported(snakemake.log[0]):
    fetch_table(
        snakemake.wildcards.table,
        snakemake.params.location,
        Path(snakemake.output.table),
        endpoint=snakemake.params.endpoint,
        region=snakemake.config["gallery"]["region"],
    )
