"""The controls: predict from channel intensities or from the position on the plate alone."""

from coda.evaluation.controls import intensity_control, position_control
from coda.files import read_table, write_table
from coda.logs import reported
from coda.training.site_selection import class_names, restricted

CONTROLS = {"intensity": intensity_control, "position": position_control}

with reported(snakemake.log[0]):
    plates = read_table(snakemake.input.plates)
    known = read_table(snakemake.input.training)
    learned_from = plates.loc[plates["subset"] == "train", "Metadata_Plate"]
    known = known[known["Metadata_Plate"].isin(learned_from)].reset_index(drop=True)
    training = restricted(known, snakemake.input.get("choice"))
    target = read_table(snakemake.input.target)
    for name, path in snakemake.output.items():
        predictions = CONTROLS[name](training, target, plates, class_names([training]))
        write_table(predictions, path)
