"""Gather what it takes to use a trained pipeline elsewhere."""

from pathlib import Path

from coda.files import replacing
from coda.logs import reported
from coda.predict.pack import write_pack
from coda.predict.pack_files import zip_pack

with reported(snakemake.log[0]):
    given, folder = snakemake.input, Path(snakemake.output.description).parent
    names = (
        "foundation",
        "networks",
        "task_model",
        "tokens",
        "embeddings",
        "spectra",
        "calibration",
    )
    write_pack(
        files={name: given[name] for name in names},
        crops=list(given.crops),
        plates=given.plates,
        settings=snakemake.params.settings,
        folder=folder,
        what={
            "source": snakemake.wildcards.source,
            "seed": int(snakemake.wildcards.seed),
            "um_per_pixel": snakemake.params.um_per_pixel,
        },
    )
    with replacing(snakemake.output.zip) as temporary:
        zip_pack(folder, temporary)
