"""Measure the cells of a plate's crops, for methods that read measured features."""

from coda.crops.store import CropStore
from coda.evaluation.measured_features import measured_features
from coda.files import write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    store = CropStore(snakemake.input.crops)
    write_table(measured_features(store), snakemake.output.features)
