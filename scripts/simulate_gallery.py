"""Draw a simulated gallery."""

from pathlib import Path

from coda.reporting import reported
from coda.simulation import simulate_gallery

with reported(snakemake.log[0]):
    settings = dict(snakemake.params.settings)
    seed = settings.pop("seed")
    simulate_gallery(Path(snakemake.output.gallery), settings, seed, snakemake.threads)
