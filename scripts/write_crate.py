"""Describe a run's results as an RO-Crate, with all that made them."""

from pathlib import Path

from coda.logs import reported
from coda.provenance import ROOT
from coda.report.crate import write_crate, write_provenance

PARTS = (
    "Snakefile", "rules/*", "scripts/**/*", "envs/*", "report/*", "config/schema.yaml", "requirements*",
    "pyproject.toml", "LICENSE", "CITATION.cff",
)  # fmt: skip


def workflow_files() -> list[Path]:
    """List the files of the workflow that a result depends on."""
    found = [path for part in PARTS for path in sorted(ROOT.glob(part))]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


with reported(snakemake.log[0]):
    provenance = Path(snakemake.output.provenance)
    weights = [Path(path) for path in snakemake.input.weights]
    # The figures of plates lie in a folder of their source.
    folders = [sorted(path.glob("*.png")) or [path] for path in map(Path, snakemake.input.figures)]
    figures = [path for paths in folders for path in paths]
    write_provenance(
        provenance,
        snakemake.params.config,
        weights,
        workflow_files(),
        ROOT,
    )
    files = [Path(path) for path in [*snakemake.input.results, *snakemake.input.plates]]
    # A figure's vector form and table lie beside its picture, a log and a card beside weights.
    files += [path for figure in figures for path in figure.parent.glob(f"{figure.stem}.*")]
    beside = ("*.parquet", "*.md")
    files += [path for model in weights for name in beside for path in model.parent.glob(name)]
    files += [path for path in provenance.rglob("*") if path.is_file()]
    write_crate(snakemake.output.crate, files, snakemake.params.config)
