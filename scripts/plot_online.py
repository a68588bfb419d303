"""Draw accuracy plate after plate."""

from coda.figures_protocols import online_curve
from coda.protocol_scores import read_protocol_scores
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = online_curve(read_protocol_scores(snakemake.input.scores), snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
