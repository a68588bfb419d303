"""List the sites of a plate with their compounds and image keys."""

from coda.files import read_table, write_table
from coda.gallery import open_gallery
from coda.indexing import choose_sites, index_plate
from coda.reporting import reported

with reported(snakemake.log[0]):
    settings = snakemake.config["gallery"]
    source, plate = snakemake.wildcards.source, snakemake.wildcards.plate
    plates, wells = read_table(snakemake.input.plates), read_table(snakemake.input.well)
    plates, wells = (
        table[(table["Metadata_Source"] == source) & (table["Metadata_Plate"] == plate)]
        for table in (plates, wells)
    )
    index = index_plate(
        open_gallery(**{name: settings[name] for name in ("root", "endpoint", "region")}),
        source,
        plates["Metadata_Batch"].iloc[0],
        plate,
        wells,
        read_table(snakemake.input.compounds),
        snakemake.params.channels,
    )
    write_table(choose_sites(index, **snakemake.params.choose), snakemake.output.index)
