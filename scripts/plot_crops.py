"""Draw the same compounds as each source imaged them."""

from coda.crops.store import CropStore
from coda.figures.montage import montage
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    drawing = montage(CropStore(snakemake.input.crops), snakemake.params.compounds)
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
