"""Refuse training plates that lack a class."""

from coda.files import read_table, write_table
from coda.gallery.plates import read_training_wells
from coda.gallery.training_classes import check_training_classes
from coda.logs import reported

with reported(snakemake.log[0]):
    plates, training = read_table(snakemake.input.plates), snakemake.params.training
    wells = read_training_wells(snakemake.input.well, plates, training)
    compounds = read_table(snakemake.input.compounds)
    classes = check_training_classes(plates, wells, compounds, snakemake.params.choose, training)
    write_table(classes, snakemake.output.classes)
