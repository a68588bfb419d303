"""Fetch and verify all images of a plate."""

from pathlib import Path

from coda.files import read_table
from coda.gallery.download import download_plate
from coda.gallery.open import open_gallery
from coda.gallery.planes import PlanesOf
from coda.logs import reported

with reported(snakemake.log[0]):
    settings = snakemake.config["gallery"]
    names = ("endpoint", "region", "workers", "attempts", "timeout")
    download_plate(
        PlanesOf(open_gallery(snakemake.params.root, **{name: settings[name] for name in names})),
        read_table(snakemake.input.index),
        snakemake.params.channels,
        Path(snakemake.output.images),
        Path(snakemake.output.manifest),
        settings["max_lost"],
        settings["workers"],
        None if settings["keep_images"] else settings["plates_in_flight"],
    )
