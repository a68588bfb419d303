"""Draw the matrix of training sources and targets."""

from coda.evaluation.scores import read_scores
from coda.figures.matrix import matrix_map
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    drawing = matrix_map(read_scores(snakemake.input.summary), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
