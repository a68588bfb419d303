"""Score all methods and tell the result in a table."""

from pathlib import Path

from coda.comparison import score_predictions
from coda.files import read_table, replacing, write_table
from coda.reporting import reported
from coda.score_tables import accuracy_table

with reported(snakemake.log[0]):
    files = []
    for path in snakemake.input.predictions:
        # predictions/<source>/seed_<seed>/<method>/<target>.parquet
        source, seed, method, _ = Path(path).parts[-4:]
        files.append(
            dict(
                train_source=source,
                target_source=Path(path).stem,
                seed=int(seed.removeprefix("seed_")),
                method=method,
                path=path,
            )
        )
    evaluation = score_predictions(
        files,
        read_table(snakemake.input.plates),
        snakemake.params.replicates,
        snakemake.params.seed,
    )
    write_table(evaluation.metrics, snakemake.output.metrics)
    write_table(evaluation.summary, snakemake.output.summary)
    with replacing(snakemake.output.text) as temporary:
        temporary.write_text(accuracy_table(evaluation.summary))
