"""Draw the wells of a pair in feature space."""

from coda.evaluation import read_predictions
from coda.figures_embedding import embedding_map
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    tables = (
        read_predictions(snakemake.input[name], embeddings=True)
        for name in ("home", "before", "after")
    )
    save_figure(embedding_map(*tables), snakemake.output.png.removesuffix(".png"))
