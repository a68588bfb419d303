"""Draw the coverage of the prediction sets of all methods trained on one source."""

from coda.evaluation.coverage_table import read_coverage
from coda.figures.coverage import coverage_dots
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    coverage = read_coverage(snakemake.input.coverage)
    own = coverage[coverage["train_source"] == snakemake.wildcards.source]
    save_figure(coverage_dots(own), snakemake.output.png.removesuffix(".png"))
