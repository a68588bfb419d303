"""Draw a simulated gallery."""

from pathlib import Path

from coda.logs import reported
from coda.simulation.plates import simulate_gallery

with reported(snakemake.log[0]):
    settings = dict(snakemake.params.settings)
    seed = settings.pop("seed")
    simulate_gallery(Path(snakemake.output.gallery), settings, seed, snakemake.threads)
