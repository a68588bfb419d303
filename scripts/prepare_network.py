"""Build the network that trainings start from, and fetch its weights."""

from coda.logs import reported
from coda.training.initial_weights import prepare_start
from coda.training.settings import ModelSettings, ViewSettings

config = snakemake.config

with reported(snakemake.log[0]):
    prepare_start(
        snakemake.output.weights,
        model=ModelSettings(**snakemake.params.model),
        views=ViewSettings(**config["views"]),
        channels=snakemake.params.channels,
        crop_size=config["crops"]["size"],
        depths={name: config[name]["depth"] for name in ("classify", "supervise")},
        tensorboard=config["watch"]["tensorboard"],
    )
