"""Make a crop store of crops that were cut elsewhere."""

from coda.crops.ready_crops import import_crops, read_rows
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    channels = snakemake.params.channels
    import_crops(
        rows=read_rows(snakemake.input.table, snakemake.wildcards.plate, channels),
        index=read_table(snakemake.input.index),
        channels=channels,
        settings=snakemake.params.settings,
        um_per_pixel=snakemake.params.um_per_pixel,
        max_lost=snakemake.config["gallery"]["max_lost"],
        out=snakemake.output.crops,
        quality=snakemake.output.quality,
        manifest=snakemake.output.manifest,
    )
