"""Draw where the networks look on some crops of a pair, and what blanking a channel does to their calls."""

from coda.crops.store import CropStore
from coda.figures.attention import attention_figure
from coda.figures.style import save_figure
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    given = snakemake.input
    drawing = attention_figure(
        read_table(given.explanations),
        CropStore(given.home),
        CropStore(given.target),
        snakemake.params.size,
    )
    save_figure(drawing, snakemake.output.png.removesuffix(".png"))
