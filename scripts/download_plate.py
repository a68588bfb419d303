"""Fetch and verify all images of a plate."""

from pathlib import Path

from coda.download import download_plate
from coda.files import read_table
from coda.gallery import open_gallery
from coda.reporting import reported

with reported(snakemake.log[0]):
    download_plate(
        open_gallery(**snakemake.params.gallery),
        read_table(snakemake.input.index),
        snakemake.params.channels,
        Path(snakemake.output.images),
        Path(snakemake.output.manifest),
        snakemake.params.max_lost,
        snakemake.params.gallery["workers"],
    )
