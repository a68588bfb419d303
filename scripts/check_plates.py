"""Refuse plates that share images, or lack a class."""

from coda.files import read_table, write_table
from coda.gallery.plates import read_training_wells
from coda.gallery.shared_images import check_plates
from coda.gallery.training_classes import check_training_classes
from coda.logs import reported

with reported(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    chosen, training = read_table(given.chosen), params.training
    classes = check_training_classes(
        chosen,
        read_training_wells(given.well, chosen, training) if training else None,
        read_table(given.compounds) if training else None,
        params.choose,
        training,
    )
    write_table(classes, snakemake.output.classes)
    indexes = [read_table(path) for path in given.indexes]
    write_table(check_plates(indexes, params.roots), snakemake.output.plates)
