"""Draw how often predictions are right at each confidence."""

from coda.evaluation.units import read_predictions
from coda.figures.calibration import reliability
from coda.figures.style import save_figure
from coda.files import read_table
from coda.logs import reported

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
