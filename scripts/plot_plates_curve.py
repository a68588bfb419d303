"""Draw accuracy over the number of plates adapted to."""

from coda.figures_protocols import plates_curve
from coda.protocol_scores import read_protocol_scores
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = plates_curve(read_protocol_scores(snakemake.input.scores), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
