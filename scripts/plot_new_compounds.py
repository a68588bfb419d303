"""Draw accuracy on compounds that the classifier learned and on those it did not."""

from coda.evaluation.experiment_scores import read_experiment_scores
from coda.figures.experiments import paired_bars
from coda.figures.style import save_figure
from coda.logs import reported

KINDS = {"known_compounds": "compounds learned from", "new_compounds": "new compounds"}

with reported(snakemake.log[0]):
    scores = read_experiment_scores(snakemake.input.scores)
    drawing = paired_bars(scores, KINDS, snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
