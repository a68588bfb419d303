"""Build the network that trainings start from, and fetch its weights."""

from coda.reporting import reported
from coda.settings import ModelSettings, ViewSettings
from coda.start import prepare_start

with reported(snakemake.log[0]):
    prepare_start(
        snakemake.output.weights,
        model=ModelSettings(**snakemake.params.model),
        views=ViewSettings(**snakemake.params.views),
        channels=snakemake.params.channels,
        crop_size=snakemake.params.crop_size,
        depths=snakemake.params.depths,
        tensorboard=snakemake.config["watch"]["tensorboard"],
    )
