"""Draw confusion matrices before and after adaptation."""

from coda.evaluation.units import read_predictions
from coda.figures.confusion import confusion_matrices
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    drawing = confusion_matrices(
        read_predictions(snakemake.input.before),
        read_predictions(snakemake.input.after),
        level=snakemake.params.level,
    )
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
