"""Fetch the centres of the gallery's own nuclei of a plate."""

from coda.files import read_table
from coda.gallery.nuclei_tables import download_nuclei
from coda.gallery.open import open_gallery
from coda.logs import reported

with reported(snakemake.log[0]):
    settings = snakemake.config["gallery"]
    names = ("endpoint", "region", "workers", "attempts", "timeout")
    download_nuclei(
        open_gallery(snakemake.params.root, **{name: settings[name] for name in names}),
        read_table(snakemake.input.index),
        snakemake.output.nuclei,
        settings["workers"],
        settings["max_lost"],
    )
