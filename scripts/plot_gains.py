"""Draw what adaptation did to each mechanism of action."""

from coda.evaluation import read_predictions
from coda.figures_gains import recall_gains
from coda.files import read_table
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = recall_gains(
        read_predictions(snakemake.input.before),
        read_predictions(snakemake.input.after),
        read_table(snakemake.input.plates),
        level=snakemake.params.level,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
