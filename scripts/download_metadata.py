"""Fetch one public table."""

from pathlib import Path

from coda.gallery.public_tables import fetch_table
from coda.logs import reported

with reported(snakemake.log[0]):
    fetch_table(
        snakemake.wildcards.table,
        snakemake.params.location,
        Path(snakemake.output.table),
        endpoint=snakemake.params.endpoint,
        region=snakemake.config["gallery"]["region"],
    )
