"""Draw accuracy before and after adaptation."""

from coda.comparison import read_scores
from coda.figures_slopes import slope_chart
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = slope_chart(read_scores(snakemake.input.summary), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
