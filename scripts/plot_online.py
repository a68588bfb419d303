"""Draw accuracy plate after plate."""

from coda.evaluation.experiment_scores import read_experiment_scores
from coda.figures.experiments import online_curve
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    drawing = online_curve(read_experiment_scores(snakemake.input.scores), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
