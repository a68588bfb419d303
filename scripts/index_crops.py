"""List the sites of a plate of crops with their compounds."""

from coda.crops.ready_crops import index_crops
from coda.files import read_table, write_table
from coda.gallery.input_warnings import keep_warnings
from coda.logs import reported, warned

with reported(snakemake.log[0]), warned() as messages:
    source, plate = snakemake.wildcards.source, snakemake.wildcards.plate
    plates = read_table(snakemake.input.plates)
    own = plates[(plates["Metadata_Source"] == source) & (plates["Metadata_Plate"] == plate)]
    index = index_crops(
        snakemake.input.table,
        snakemake.input.platemap or None,
        source,
        own["Metadata_Batch"].iloc[0],
        plate,
        snakemake.params.channels,
    )
    write_table(keep_warnings(index, messages), snakemake.output.index)
