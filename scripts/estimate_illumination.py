"""Gather the statistics of a plate."""

from coda.crops.illumination import estimate_illumination
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    estimate_illumination(
        index=read_table(snakemake.input.index),
        images=snakemake.input.images,
        manifest=read_table(snakemake.input.manifest),
        channels=snakemake.params.channels,
        out=snakemake.output.illumination,
        processes=snakemake.threads,
        min_sites=snakemake.params.min_sites,
        max_lost=snakemake.config["gallery"]["max_lost"],
        crop=snakemake.params.crop,
    )
