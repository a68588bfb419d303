"""Gather what a reader of the results should know of the inputs."""

import pandas as pd
from coda.crops.image_copies import find_copies
from coda.files import read_table, write_table
from coda.gallery.input_warnings import warnings_of
from coda.logs import reported

with reported(snakemake.log[0]):
    tables = [*snakemake.input.compounds, *snakemake.input.indexes]
    sites = pd.concat([read_table(path) for path in snakemake.input.quality])
    told = [*(warnings_of(read_table(path)) for path in tables), find_copies(sites)]
    write_table(pd.concat(told, ignore_index=True), snakemake.output.warnings)
