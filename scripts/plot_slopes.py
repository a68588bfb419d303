"""Draw accuracy before and after adaptation."""

from coda.evaluation.scores import read_scores
from coda.figures.slopes import slope_chart
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    drawing = slope_chart(
        read_scores(snakemake.input.summary), snakemake.params.level, snakemake.params.method
    )
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
