"""Correct, compress and cut every site of a plate."""

from coda.crops.extract import extract_crops
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    extract_crops(
        index=read_table(snakemake.input.index),
        images=snakemake.input.images,
        manifest=read_table(snakemake.input.manifest),
        illumination=snakemake.input.illumination,
        out=snakemake.output.crops,
        settings=snakemake.params.settings,
        um_per_pixel=snakemake.params.um_per_pixel,
        processes=snakemake.threads,
        max_lost=snakemake.config["gallery"]["max_lost"],
        channels=snakemake.params.channels,
        nuclei=read_table(snakemake.input.nuclei) if snakemake.input.nuclei else None,
        functions=snakemake.input.functions,
    )
