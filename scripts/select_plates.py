"""Choose the plates that take part."""

import pandas as pd
from coda.files import read_table, write_table
from coda.gallery.plates import PLATE_COLUMNS, add_own_plates, read_sample_sheet, select_plates
from coda.logs import reported

with reported(snakemake.log[0]):
    plates = (
        read_table(snakemake.input.plate)
        if snakemake.input.plate
        else pd.DataFrame(columns=PLATE_COLUMNS, dtype="str")
    )
    if snakemake.input.sample_sheet:
        sheet = read_sample_sheet(snakemake.input.sample_sheet, snakemake.params.plate_type)
        plates = add_own_plates(plates, sheet)
    plates = select_plates(
        plates,
        snakemake.params.plate_type,
        snakemake.params.sources,
        snakemake.params.exclude,
    )
    write_table(plates, snakemake.output.plates)
