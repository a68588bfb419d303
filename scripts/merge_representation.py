"""Lay the scores of the features of all training runs below each other."""

import pandas as pd
from coda.files import read_table, write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    tables = [read_table(path) for path in snakemake.input.tables]
    write_table(pd.concat(tables, ignore_index=True), snakemake.output.representation)
