"""Give compounds their mechanism of action."""

from coda.files import read_table, write_table
from coda.gallery.input_warnings import keep_warnings
from coda.gallery.labels import label_compounds
from coda.logs import reported, warned

with reported(snakemake.log[0]), warned() as messages:
    compounds = label_compounds(
        compounds=read_table(snakemake.input.compound),
        platemap=read_table(snakemake.input.platemap),
        target_compounds=read_table(snakemake.input.target_compounds),
        drugs=read_table(snakemake.input.drugs),
        min_compounds=snakemake.params.min_compounds,
    )
    write_table(keep_warnings(compounds, messages), snakemake.output.compounds)
