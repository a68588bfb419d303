"""Draw the accuracy of all methods."""

from coda.comparison import read_scores
from coda.figures_accuracy import accuracy_bars
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = accuracy_bars(read_scores(snakemake.input.summary), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
