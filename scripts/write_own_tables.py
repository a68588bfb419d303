"""Write the tables that a lab of its own would write for its plates, here simulated ones."""

from pathlib import Path

from coda.logs import reported
from coda.simulation.own_tables import write_own_tables

with reported(snakemake.log[0]):
    write_own_tables(
        Path(snakemake.input.gallery),
        snakemake.params.lab,
        Path(snakemake.output.sheet),
        Path(snakemake.output.platemap),
    )
