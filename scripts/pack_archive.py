"""Pack figures, tables, report and their provenance into one zip."""

from coda.logs import reported
from coda.report.crate import pack_archive

with reported(snakemake.log[0]):
    pack_archive(snakemake.output.archive, snakemake.input.crate)
