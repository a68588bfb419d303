"""Draw confusion matrices before and after adaptation."""

from coda.evaluation import read_predictions
from coda.figures_confusion import confusion_matrices
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = confusion_matrices(
        read_predictions(snakemake.input.before),
        read_predictions(snakemake.input.after),
        level=snakemake.params.level,
    )
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
