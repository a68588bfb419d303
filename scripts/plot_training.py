"""Draw the curves of everything trained on a source."""

from coda.figures.style import save_figure
from coda.figures.training import training_curves
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    logs = [read_table(path) for path in snakemake.input.logs]
    runs = dict(zip(snakemake.params.names, logs, strict=True))
    drawing = training_curves(runs, snakemake.params.prototypes)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
