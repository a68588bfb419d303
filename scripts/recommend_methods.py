"""Recommend a method for each target, without its labels."""

import pandas as pd
from coda.evaluation.recommendation import STARTING, compare_methods, recommendations
from coda.evaluation.units import read_predictions
from coda.files import write_table
from coda.logs import reported
from coda.methods import COMPOSED

with reported(snakemake.log[0]):
    runs = pd.DataFrame(snakemake.params.runs).assign(path=list(snakemake.input.predictions))
    at_home = runs["train_source"] == runs["target_source"]
    home = runs[at_home].set_index(["train_source", "seed", "method"])["path"]
    compared = []
    keys = ["train_source", "target_source", "seed"]
    for (source, target, seed), run in runs[~at_home].groupby(keys, sort=False):
        tables = {row.method: read_predictions(row.path) for row in run.itertuples()}
        homes = {head: read_predictions(path) for head, path in home[source, seed].items()}
        other = {
            name: ("supervised", homes["supervised"])
            for name in tables
            if COMPOSED[name].head == "supervised"
        }
        rows = compare_methods(tables, homes[STARTING], other)
        compared.append(rows.assign(train_source=source, target_source=target, seed=seed))
    table = recommendations(pd.concat(compared))
    for row in table[table["chosen"]].itertuples():
        print(f"{row.train_source} to {row.target_source}: {row.method}")
    write_table(table, snakemake.output.recommendation)
