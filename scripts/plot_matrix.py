"""Draw the matrix of training sources and targets."""

from coda.comparison import read_scores
from coda.figures_matrix import matrix_map
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = matrix_map(read_scores(snakemake.input.summary), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
