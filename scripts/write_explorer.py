"""Lay the crops of one training source and its targets out on a page to look through."""

import pandas as pd
from coda.columns import source_name
from coda.crops.store import CropStore
from coda.evaluation.units import classes_of, read_predictions
from coda.figures.explorer import About, crops_table, looks, thumbnails, widths_of, write_explorer
from coda.files import read_table
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
    stores = [CropStore([path]) for path in given.crops]
    pictures, _ = thumbnails(table, stores)
    explanations = [read_table(path) for path in given.explanations]
    size = snakemake.params.size
    write_explorer(
        snakemake.output.explorer,
        table,
        pictures,
        About(
            f"Crops of {source_name(snakemake.params.source)} and of the labs adapted to, before and after "
            f"{method_name(snakemake.params.method)}",
            snakemake.params.source,
            len(home) + sum(map(len, before)),
            classes_of(home),
            widths_of(stores, table),
            snakemake.params.simulated,
        ),
        looks(
            table,
            pd.concat(explanations) if explanations else None,
            (size / stores[0].height, size / stores[0].width),
        ),
    )
