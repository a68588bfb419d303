"""Measure the intensities of a source, which is all that the intensity control sees."""

from coda.crops.store import CropStore
from coda.evaluation.controls import intensity_features
from coda.files import write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    write_table(intensity_features(CropStore(snakemake.input.crops)), snakemake.output.intensities)
