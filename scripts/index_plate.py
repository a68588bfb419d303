"""List the sites of a plate with their compounds and image keys."""

from coda.errors import UserError
from coda.files import read_table, write_table
from coda.gallery.image_names import own_images
from coda.gallery.input_warnings import keep_warnings
from coda.gallery.open import open_gallery
from coda.gallery.platemap import compounds_of, read_platemap
from coda.gallery.plates import WELL_COLUMNS, read_wells
from coda.gallery.site_filter import check_choice, choose_sites, is_chosen
from coda.gallery.site_index import index_plate, judge_missing, plate_layout
from coda.logs import reported, warned

with reported(snakemake.log[0]), warned() as messages:
    settings = snakemake.config["gallery"]
    source, plate = snakemake.wildcards.source, snakemake.wildcards.plate
    plates = read_table(snakemake.input.plates)
    own = plates[(plates["Metadata_Source"] == source) & (plates["Metadata_Plate"] == plate)]
    choose = snakemake.params.choose
    if snakemake.input.platemap:
        platemap = read_platemap(snakemake.input.platemap, plate)
        labels = compounds_of(platemap)
        wells = platemap.assign(Metadata_Source=source, Metadata_Plate=plate)[WELL_COLUMNS]
    elif snakemake.input.well:
        wells = read_wells(snakemake.input.well, source, plate, snakemake.input.layout or None)
        labels = read_table(snakemake.input.compounds)
    else:
        raise UserError(
            f"The sample sheet (sample_sheet) names no platemap for {source} {plate}; give the file with its wells and "
            "compounds in the column platemap."
        )
    check_choice(*(choose[key] for key in ("wells", "compounds", "moas")), wells, labels)
    index = index_plate(
        open_gallery(snakemake.params.root, settings["endpoint"], settings["region"]),
        source,
        own["Metadata_Batch"].iloc[0],
        plate,
        wells,
        labels,
        snakemake.params.channels,
        snakemake.params.place.get("load_data"),
        own_images(snakemake.params.place, snakemake.params.tokens),
    )
    layout = plate_layout(wells, labels, source, plate)
    choice = [choose[key] for key in ("wells", "compounds", "moas", "labelled")]
    planned = layout[is_chosen(layout, *choice)]
    missing = judge_missing(index, planned, settings["max_lost"], choose["sites_per_well"])
    index = choose_sites(index, **choose)
    write_table(keep_warnings(index, messages, missing), snakemake.output.index)
