"""What a reader is handed: the report, where its results come from, and a zip for a paper.

Needs: scores, figures, quality tables, filters, manifests and weights.
Gives: <results>/report.html, <results>/explorer.html, <results>/ro-crate-metadata.json with <results>/provenance, <results>/archive.zip.
"""

# The explorer shows one training source, the first, with all its targets.
EXPLORED = PAIRS[0][0] if PAIRS and config["figures"]["after"] else None
EXPLORED_TARGETS = [target for source, target in PAIRS if source == EXPLORED]


def all_filters(wildcards):
    """Filters of the plates of every pair, where methods are harmonised."""
    path = rules.fit_harmonisation.output.filters
    return [path.format(source=source, target=target) for source, target in PAIRS if HARMONISES]


# Pairs that have figures of their own.
DRAWN_PAIRS = PAIRS if config["figures"]["after"] else []


def gains_of_first_seed(wildcards):
    """Gain of each mechanism on every pair, of the method that figures of a pair show."""
    path = f"{FIGURES}/gains/{PER_PAIR}.csv"
    return [
        path.format(source=source, target=target, seed=SEEDS[0]) for source, target in DRAWN_PAIRS
    ]


rule write_report:
    """Put findings, figures, tables, settings and versions into one HTML file."""
    input:
        summary=rules.score_predictions.output.summary,
        by_plate=rules.score_predictions.output.by_plate,
        recommendation=rules.recommend_methods.output.recommendation,
        representation=rules.merge_representation.output.representation,
        coverage=rules.score_coverage.output.coverage,
        quality=all_quality,
        filters=all_filters,
        plates=f"{RESULTS}/metadata/plates.csv",
        warnings=rules.collect_warnings.output.warnings,
        experiments=rules.score_experiments.output.scores if EXPERIMENTS else [],
        gains=gains_of_first_seed,
        figures=all_figures,
        template=local(os.path.relpath(SCRIPTS / "coda/report/report.html.jinja")),
        captions=[
            local(os.path.relpath(path)) for path in sorted(SCRIPTS.parent.glob("report/*.rst"))
        ],
    output:
        report=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/write_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_report.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        config=config,
        figures=FIGURES,
        explorer="explorer.html" if EXPLORED else None,
        after=AFTER,
        pairs=DRAWN_PAIRS,
        code=code("write_report"),
    script:
        "../scripts/write_report.py"


def explored(method, targets):
    """Predictions of a method for the explored source, with its first seed."""
    return [
        PREDICTIONS.format(source=EXPLORED, seed=SEEDS[0], method=method, target=target)
        for target in targets
    ]


rule write_explorer:
    """Crops in feature space and on their plates, on one page to look through."""
    input:
        home=explored("unadapted", [EXPLORED]),
        before=explored("unadapted", EXPLORED_TARGETS),
        after=explored(AFTER, EXPLORED_TARGETS),
        # Without another foundation or other images there is one attention only.
        explanations=(
            expand(
                rules.explain_calls.output.explanations,
                source=EXPLORED,
                seed=SEEDS[0],
                target=EXPLORED_TARGETS,
            )
            if EXPLORED and COMPOSED[AFTER].foundation != "unadapted"
            else []
        ),
        crops=lambda wildcards: [
            path for source in [EXPLORED, *EXPLORED_TARGETS] for path in crops_of(source)
        ],
        template=local(os.path.relpath(SCRIPTS / "coda/figures/explorer.html.jinja")),
    output:
        explorer=f"{RESULTS}/explorer.html",
    log:
        f"{RESULTS}/logs/write_explorer.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_explorer.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        source=EXPLORED,
        method=AFTER,
        size=config["views"]["global_size"],
        simulated="simulation" in config,
        code=code("write_explorer"),
    script:
        "../scripts/write_explorer.py"


def all_weights(wildcards):
    """Weights behind the predictions of every method: foundations and classifiers, each once."""
    methods = [name for name in config["methods"] if COMPOSED[name].kind != "control"]
    weights = {
        path.format(source=source, target=target, seed=seed)
        for source, target in PAIRS
        for seed in SEEDS
        for method in methods
        for path in (foundation_of(method), classifier_of(method))
        if path
    }
    return sorted(weights)


rule write_crate:
    """Say of every result what made it, as an RO-Crate."""
    input:
        results=[
            f"{RESULTS}/report.html",
            *rules.score_predictions.output,
            *rules.merge_representation.output,
            *rules.recommend_methods.output,
            *rules.score_coverage.output,
            f"{RESULTS}/metadata/plates.csv",
            rules.label_compounds.output.compounds,
            rules.collect_warnings.output.warnings,
        ],
        figures=all_figures,
        plates=lambda wildcards: [
            *tables_of("manifests", *SOURCES),
            *all_quality(wildcards),
            *all_filters(wildcards),
        ],
        weights=all_weights,
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
        code=code("write_crate"),
    script:
        "../scripts/write_crate.py"


rule pack_archive:
    """Pack the crate and the files that it describes into one zip."""
    input:
        crate=rules.write_crate.output.crate,
        provenance=rules.write_crate.output.provenance,
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
    params:
        code=code("pack_archive"),
    script:
        "../scripts/pack_archive.py"
