"""Draw accuracy on half of the mechanisms of action, by what adaptation and alignment saw."""

from coda.evaluation.experiment_scores import read_experiment_scores
from coda.figures.experiments import paired_bars
from coda.figures.style import save_figure
from coda.logs import reported

KINDS = {"whole_mix": "all mechanisms on the target", "half_mix": "half of them only"}

with reported(snakemake.log[0]):
    scores = read_experiment_scores(snakemake.input.scores)
    drawing = paired_bars(scores, KINDS, snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
