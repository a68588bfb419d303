"""Choose the plates that take part."""

import pandas as pd
from coda.files import read_table, write_table
from coda.gallery.plates import PLATE_COLUMNS, add_own_plates, read_sample_sheet, select_plates
from coda.logs import reported, some, tell

with reported(snakemake.log[0]):
    plates = (
        read_table(snakemake.input.plate)
        if snakemake.input.plate
        else pd.DataFrame(columns=PLATE_COLUMNS, dtype="str")
    )
    if snakemake.input.sample_sheet:
        sheet = read_sample_sheet(snakemake.input.sample_sheet, snakemake.params.plate_type)
        plates = add_own_plates(plates, sheet)
        if unused := {*sheet["Metadata_Source"]} - {*snakemake.params.sources}:
            tell(f"sample_sheet has plates of {some(unused)}, which the config does not use")
    plates = select_plates(
        plates,
        snakemake.params.plate_type,
        snakemake.params.sources,
        snakemake.params.exclude,
    )
    write_table(plates, snakemake.output.plates)
