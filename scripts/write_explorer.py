"""Lay the crops of one training source and its targets out on a page to look through."""

from coda.columns import source_name
from coda.crops.store import CropStore
from coda.evaluation.units import read_predictions
from coda.figures.explorer import crops_table, thumbnails, write_explorer
from coda.logs import reported
from coda.methods import method_name

with reported(snakemake.log[0]):
    given = snakemake.input
    home = read_predictions(given.home[0], embeddings=True)
    before, after = (
        [read_predictions(path, embeddings=True) for path in paths]
        for paths in (given.before, given.after)
    )
    table = crops_table(home, before, after)
    pictures, _ = thumbnails(table, [CropStore([path]) for path in given.crops])
    write_explorer(
        snakemake.output.explorer,
        table,
        pictures,
        f"Crops of {source_name(snakemake.params.source)} and of the labs adapted to, before and after "
        f"{method_name(snakemake.params.method)}",
        len(home) + sum(map(len, before)),
    )
