"""Draw the accuracy of all methods trained on one source."""

from coda.evaluation.scores import read_scores
from coda.figures.accuracy import accuracy_bars
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    summary = read_scores(snakemake.input.summary)
    own = summary[summary["train_source"] == snakemake.wildcards.source]
    drawing = accuracy_bars(own, snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
