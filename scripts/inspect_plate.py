"""Say what became of every site of a plate."""

from coda.crops.illumination import Illumination, illumination_used
from coda.crops.quality import inspect_plate
from coda.crops.site_images import plate_name
from coda.crops.store import CropStore
from coda.files import read_table
from coda.logs import reported, warn, warned

with reported(snakemake.log[0]), warned() as messages:
    index = read_table(snakemake.input.index)
    sites = Illumination.load(snakemake.input.illumination).sites
    kind, least = snakemake.params.illumination, snakemake.params.min_sites
    if kind == "auto" and illumination_used(kind, least, sites) == "none":
        warn(
            f"{plate_name(index)} has {(sites['status'] == 'ok').sum()} usable sites, fewer than crops.min_sites = "
            f"{least}, so its illumination is not corrected"
        )
    inspect_plate(
        index=index,
        sites=sites,
        crops=CropStore([snakemake.input.crops]).table,
        channels=snakemake.params.channels,
        limits=snakemake.params.limits,
        out=snakemake.output.quality,
        warnings=messages,
    )
