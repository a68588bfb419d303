"""Draw the same compounds as each source imaged them."""

from coda.figures_montage import montage
from coda.reporting import reported
from coda.store import CropStore
from coda.style import save_figure

with reported(snakemake.log[0]):
    drawing = montage(CropStore(snakemake.input.crops), snakemake.params.compounds)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
