"""Draw what adaptation did on one pair: gains, confusion matrices, calibration and the wells in feature space."""

from coda.evaluation.units import read_predictions
from coda.figures.calibration import reliability
from coda.figures.confusion import confusion_matrices
from coda.figures.embedding import embedding_map
from coda.figures.gains import recall_gains
from coda.figures.style import save_figure
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    level = snakemake.params.level
    method = snakemake.params.method
    resampling = dict(replicates=snakemake.params.replicates, seed=snakemake.params.seed)
    tables = [
        read_predictions(snakemake.input[name], embeddings=True)
        for name in ("home", "before", "after")
    ]
    pair = [table.drop(columns="Embedding") for table in tables[1:]]
    plates = read_table(snakemake.input.plates)
    drawings = {
        "gains": recall_gains(*pair, plates, level=level, method=method, **resampling),
        "confusion": confusion_matrices(*pair, level=level, method=method),
        "calibration": reliability(*pair, plates, level=level, method=method, **resampling),
        "embedding": embedding_map(*tables, method=method),
    }
    for name, drawing in drawings.items():
        save_figure(drawing, snakemake.output[name].removesuffix(".png"))
