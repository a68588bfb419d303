"""Refuse plates that share images."""

from coda.files import read_table, write_table
from coda.gallery.shared_images import check_plates
from coda.logs import reported

with reported(snakemake.log[0]):
    indexes = [read_table(path) for path in snakemake.input.indexes]
    write_table(check_plates(indexes, snakemake.params.roots), snakemake.output.plates)
