"""Draw accuracy on compounds that the classifier learned and on those it did not."""

from coda.figures_protocols import paired_bars
from coda.protocol_scores import read_protocol_scores
from coda.reporting import reported
from coda.style import save_figure

KINDS = {"known_compounds": "compounds learned from", "new_compounds": "new compounds"}

with reported(snakemake.log[0]):
    scores = read_protocol_scores(snakemake.input.scores)
    drawing = paired_bars(scores, KINDS, snakemake.params.level)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
