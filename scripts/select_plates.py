"""Choose the plates that take part."""

from coda.files import read_table, write_table
from coda.plates import select_plates
from coda.reporting import reported

with reported(snakemake.log[0]):
    plates = select_plates(
        read_table(snakemake.input.plate),
        snakemake.params.plate_type,
        snakemake.params.sources,
        snakemake.params.exclude,
    )
    write_table(plates, snakemake.output.plates)
