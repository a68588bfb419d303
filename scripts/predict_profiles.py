"""Predict a target from measured features of its wells, by every way to bring sources together."""

import pandas as pd
from coda.evaluation.classical_profiles import predict_from_profiles
from coda.files import read_table, write_table
from coda.logs import reported
from coda.training.site_selection import class_names

with reported(snakemake.log[0]):
    plates = read_table(snakemake.input.plates)
    training, target = (
        pd.concat(map(read_table, paths), ignore_index=True)
        for paths in (snakemake.input.training, snakemake.input.target)
    )
    learned_from = plates.loc[plates["subset"] == "train", "Metadata_Plate"]
    classes = class_names([training[training["Metadata_Plate"].isin(learned_from)]])
    for name, path in snakemake.output.items():
        correction = snakemake.params.corrections[name]
        write_table(predict_from_profiles(training, target, plates, classes, correction), path)
