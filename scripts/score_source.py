"""Score what was trained on one source."""

from pathlib import Path

from coda.evaluation.scores import score_source
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    files = []
    for path in map(Path, snakemake.input.predictions):
        # predictions/<source>/seed_<seed>/<method>/<target>.parquet
        source, seed, method, _ = path.parts[-4:]
        files.append(
            dict(
                train_source=source,
                target_source=path.stem,
                seed=int(seed.removeprefix("seed_")),
                method=method,
                path=str(path),
            )
        )
    scores = score_source(
        files,
        read_table(snakemake.input.plates),
        snakemake.params.replicates,
        snakemake.params.seed,
    )
    scores.save(Path(snakemake.output.runs).parent)
