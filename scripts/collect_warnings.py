"""Gather what a reader of the results should know of the inputs."""

import pandas as pd
from coda.crops.image_copies import find_copies
from coda.crops.nucleus_sizes import check_pixel_sizes
from coda.files import read_table, write_table
from coda.gallery.doses import check_doses
from coda.gallery.input_warnings import warnings_of
from coda.logs import reported

with reported(snakemake.log[0]):
    tables = [*snakemake.input.compounds, *snakemake.input.indexes]
    quality = [read_table(path) for path in snakemake.input.quality]
    told = [warnings_of(table) for table in [*map(read_table, tables), *quality]]
    sites = pd.concat(quality)
    told += [
        check_pixel_sizes(sites, snakemake.params.pixel_sizes, snakemake.params.training),
        check_doses(sites),
        find_copies(sites),
    ]
    write_table(pd.concat(told, ignore_index=True), snakemake.output.warnings)
