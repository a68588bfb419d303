"""What a run leaves for others: where its results come from, and a zip for a paper.

In: everything a reader looks at, manifests, quality tables and weights.
Out: <results>/ro-crate-metadata.json, <results>/provenance, <results>/archive.zip.
"""

WORKFLOW_FILES = [
    path
    for pattern in ("Snakefile", "rules/*", "scripts/**/*", "envs/*", "report/*", "config/schema.yaml", "requirements*", "pyproject.toml", "LICENSE", "CITATION.cff")
    for path in sorted(SCRIPTS.parent.glob(pattern))
    if path.is_file() and "__pycache__" not in path.parts
]  # fmt: skip


rule write_crate:
    """Say of every result what made it, as an RO-Crate."""
    input:
        results=[
            f"{RESULTS}/report.html",
            *rules.score_predictions.output,
            *rules.merge_representation.output,
            f"{RESULTS}/metadata/plates.csv",
            rules.label_compounds.output.compounds,
        ],
        figures=all_figures,
        plates=lambda wildcards: all_manifests(wildcards) + all_quality(wildcards),
        weights=all_weights,
        workflow=[local(os.path.relpath(path)) for path in WORKFLOW_FILES],
    output:
        crate=f"{RESULTS}/ro-crate-metadata.json",
        provenance=directory(f"{RESULTS}/provenance"),
    log:
        f"{RESULTS}/logs/write_crate.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_crate.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        config=config,
    script:
        "../scripts/write_crate.py"


rule pack_archive:
    """Pack the crate and the files that it describes into one zip."""
    input:
        crate=rules.write_crate.output.crate,
        provenance=rules.write_crate.output.provenance,
        code=code("pack_archive"),
    output:
        archive=f"{RESULTS}/archive.zip",
    log:
        f"{RESULTS}/logs/pack_archive.log",
    benchmark:
        f"{RESULTS}/benchmarks/pack_archive.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    script:
        "../scripts/pack_archive.py"
