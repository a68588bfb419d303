"""Pack figures, tables, report and their provenance into one zip."""

from coda.crate import pack_archive
from coda.reporting import reported

with reported(snakemake.log[0]):
    pack_archive(snakemake.output.archive, snakemake.input.crate)
