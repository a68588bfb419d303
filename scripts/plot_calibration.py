"""Draw how often predictions are right at each confidence."""

from coda.evaluation import read_predictions
from coda.figures_calibration import reliability
from coda.files import read_table
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = reliability(
        read_predictions(snakemake.input.before),
        read_predictions(snakemake.input.after),
        read_table(snakemake.input.plates),
        level=snakemake.params.level,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
