"""The controls: predict from channel intensities or from the position on the plate alone."""

from coda.crops.store import CropStore
from coda.evaluation.controls import intensity_control, position_control, read_intensities
from coda.files import read_table, write_table
from coda.logs import reported
from coda.training.site_selection import class_names, restricted

with reported(snakemake.log[0]):
    read, control = {
        "intensity": (read_intensities, intensity_control),
        "position": (lambda crops: CropStore(crops).table, position_control),
    }[snakemake.wildcards.method]
    training = restricted(read(snakemake.input.training), snakemake.input.get("choice") or None)
    predictions = control(
        training=training,
        target=read(snakemake.input.target),
        plates=read_table(snakemake.input.plates),
        classes=class_names([training]),
    )
    write_table(predictions, snakemake.output.predictions)
