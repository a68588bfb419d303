"""List the sites of a plate with their compounds and image keys."""

from coda.files import read_table, write_table
from coda.gallery import open_gallery
from coda.indexing import choose_sites, index_plate
from coda.plates import read_wells
from coda.reporting import reported

with reported(snakemake.log[0]):
    settings = snakemake.config["gallery"]
    source, plate = snakemake.wildcards.source, snakemake.wildcards.plate
    plates = read_table(snakemake.input.plates)
    own = plates[(plates["Metadata_Source"] == source) & (plates["Metadata_Plate"] == plate)]
    index = index_plate(
        open_gallery(snakemake.params.root, settings["endpoint"], settings["region"]),
        source,
        own["Metadata_Batch"].iloc[0],
        plate,
        read_wells(snakemake.input.well, source, plate, snakemake.input.get("layout") or None),
        read_table(snakemake.input.compounds),
        snakemake.params.channels,
        snakemake.params.load_data,
    )
    write_table(choose_sites(index, **snakemake.params.choose), snakemake.output.index)
