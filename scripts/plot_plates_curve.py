"""Draw accuracy over the number of plates adapted to."""

from coda.evaluation.experiment_scores import read_experiment_scores
from coda.figures.experiments import plates_curve
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    drawing = plates_curve(read_experiment_scores(snakemake.input.scores), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
