"""Fetch the gallery's own illumination functions of a plate."""

from coda.files import read_table
from coda.gallery.illumination_files import download_illumination
from coda.gallery.open import open_gallery
from coda.logs import reported

with reported(snakemake.log[0]):
    settings = snakemake.config["gallery"]
    names = ("endpoint", "region", "attempts", "timeout")
    download_illumination(
        open_gallery(snakemake.params.root, **{name: settings[name] for name in names}),
        read_table(snakemake.input.index),
        snakemake.params.channels,
        snakemake.output.functions,
    )
