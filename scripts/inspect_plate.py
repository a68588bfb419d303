"""Say what became of every site of a plate."""

from coda.crops.illumination import Illumination
from coda.crops.quality import inspect_plate
from coda.crops.store import CropStore
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    inspect_plate(
        index=read_table(snakemake.input.index),
        sites=Illumination.load(snakemake.input.illumination).sites,
        crops=CropStore([snakemake.input.crops]).table,
        channels=snakemake.params.channels,
        limits=snakemake.params.limits,
        out=snakemake.output.quality,
    )
