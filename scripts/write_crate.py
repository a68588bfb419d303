"""Describe a run's results as an RO-Crate, with all that made them."""

from pathlib import Path

from coda.logs import reported
from coda.provenance import ROOT
from coda.report.crate import write_crate, write_provenance

with reported(snakemake.log[0]):
    provenance = Path(snakemake.output.provenance)
    weights = [Path(path) for path in snakemake.input.weights]
    figures = [Path(path) for path in snakemake.input.figures]
    write_provenance(
        provenance,
        snakemake.params.config,
        weights,
        [Path(path).resolve() for path in snakemake.input.workflow],
        ROOT,
    )
    files = [Path(path) for path in [*snakemake.input.results, *snakemake.input.plates]]
    # A figure's vector form and table lie beside its picture, a log and a card beside weights.
    files += [path for figure in figures for path in figure.parent.glob(f"{figure.stem}.*")]
    beside = ("*.parquet", "*.md")
    files += [path for model in weights for name in beside for path in model.parent.glob(name)]
    files += [path for path in provenance.rglob("*") if path.is_file()]
    write_crate(snakemake.output.crate, files, snakemake.params.config)
