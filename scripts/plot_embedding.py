"""Draw the wells of a pair in feature space."""

from coda.evaluation.units import read_predictions
from coda.figures.embedding import embedding_map
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    tables = (
        read_predictions(snakemake.input[name], embeddings=True)
        for name in ("home", "before", "after")
    )
    save_figure(embedding_map(*tables), snakemake.output.png.removesuffix(".png"))
