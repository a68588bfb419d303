"""The controls: predict from channel intensities or from the position on the plate alone."""

from coda.controls import intensity_control, intensity_features, position_control
from coda.files import read_table, write_table
from coda.reporting import reported
from coda.selection import class_names, restrict
from coda.store import CropStore

with reported(snakemake.log[0]):
    training = CropStore(snakemake.input.training)
    restrict(training, snakemake.input.get("choice") or None)
    controls = {"intensity": intensity_control, "position": position_control}
    predictions = controls[snakemake.wildcards.method](
        training=intensity_features(training),
        target=intensity_features(CropStore(snakemake.input.crops)),
        plates=read_table(snakemake.input.plates),
        classes=class_names([training.table]),
    )
    write_table(predictions, snakemake.output.predictions)
