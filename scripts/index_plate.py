"""List the sites of a plate with their compounds and image keys."""

from coda.files import read_table, write_table
from coda.gallery.input_warnings import keep_warnings
from coda.gallery.open import open_gallery
from coda.gallery.plates import read_wells
from coda.gallery.site_filter import check_choice, choose_sites, is_chosen
from coda.gallery.site_index import index_plate, judge_missing, plate_layout
from coda.logs import reported, warned

with reported(snakemake.log[0]), warned() as messages:
    settings = snakemake.config["gallery"]
    source, plate = snakemake.wildcards.source, snakemake.wildcards.plate
    plates = read_table(snakemake.input.plates)
    own = plates[(plates["Metadata_Source"] == source) & (plates["Metadata_Plate"] == plate)]
    wells = read_wells(snakemake.input.well, source, plate, snakemake.input.get("layout") or None)
    labels, choose = read_table(snakemake.input.compounds), snakemake.params.choose
    check_choice(*(choose[key] for key in ("wells", "compounds", "moas")), wells, labels)
    index = index_plate(
        open_gallery(snakemake.params.root, settings["endpoint"], settings["region"]),
        source,
        own["Metadata_Batch"].iloc[0],
        plate,
        wells,
        labels,
        snakemake.params.channels,
        snakemake.params.load_data,
    )
    layout = plate_layout(wells, labels, source, plate)
    choice = [choose[key] for key in ("wells", "compounds", "moas", "labelled")]
    planned = layout[is_chosen(layout, *choice)]
    missing = judge_missing(index, planned, settings["max_lost"], choose["sites_per_well"])
    index = choose_sites(index, **choose)
    write_table(keep_warnings(index, messages, missing), snakemake.output.index)
