"""Everything a reader looks at, drawn from results alone: no rule here needs a GPU.

In: metrics, predictions, training logs, crops and quality tables.
Out: <results>/figures/*.pdf, .png and .csv (the table behind each), and <results>/report.html.
"""

FIGURES = f"{RESULTS}/figures"
PER_PAIR = "{source}_to_{target}_seed_{seed}"


def figure(stem):
    """Name the files of a figure without its ending: vector, picture and the table behind it."""
    return dict(pdf=f"{FIGURES}/{stem}.pdf", csv=f"{FIGURES}/{stem}.csv")


def predictions_of(method, target):
    """Name the predictions of one method; `target` may be the source itself."""
    return PREDICTIONS.replace("{method}", method).replace("{target}", target)


def training_logs(wildcards):
    """Logs of everything trained on a source with one seed."""
    model = MODEL.format(**wildcards)
    logs = {"pretraining": f"{model}/pretraining.parquet", "task model": f"{model}/task_model.parquet"}
    if "supervised" in config["methods"]:
        logs["supervised"] = f"{model}/supervised.parquet"
    for source, target in PAIRS:
        if source == wildcards.source:
            for method in ADAPTATIONS:
                logs[f"{method} on {target}"] = f"{model}/adapted/{target}/{method}/adaptation.parquet"
    return logs


def quality_of(wildcards):
    """Quality tables of a source's plates."""
    return [f"{RESULTS}/quality/{wildcards.source}/{plate}.parquet" for plate in plates_of(wildcards.source)]


def all_figures(wildcards):
    """Pictures of all figures, in the order of the report."""
    after = "coda" if "coda" in config["methods"] else None
    stems = ["accuracy", "crops"]
    for name in ("confusion", "embedding") if after else ():
        stems += [
            f"{name}/" + PER_PAIR.format(source=source, target=target, seed=SEEDS[0]) for source, target in PAIRS
        ]
    stems += [f"training/{source}_seed_{seed}" for source in config["train_sources"] for seed in SEEDS]
    stems += [f"sites_lost/{source}" for source in SOURCES]
    stems += [
        f"quality/{source}/{plate}_{kind}"
        for source in SOURCES
        for plate in plates_of(source)
        for kind in ("measures", "sites", "illumination")
    ]
    return [f"{FIGURES}/{stem}.png" for stem in stems]


rule plot_accuracy:
    """Bars of accuracy with intervals, for every pair of sources."""
    input:
        summary=rules.score_predictions.output.summary,
        code=code("plot_accuracy"),
    output:
        **figure("accuracy"),
        png=report(f"{FIGURES}/accuracy.png", caption="../report/accuracy.rst", category="Results"),
    log:
        f"{RESULTS}/logs/plot_accuracy.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_accuracy.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=20,
    params:
        level=config["figures"]["level"],
    script:
        "../scripts/plot_accuracy.py"


rule plot_confusion:
    """Confusion matrices of one pair, before and after adaptation."""
    input:
        before=predictions_of("unadapted", "{target}"),
        after=predictions_of("coda", "{target}"),
        code=code("plot_confusion"),
    output:
        **figure(f"confusion/{PER_PAIR}"),
        png=report(
            f"{FIGURES}/confusion/{PER_PAIR}.png", caption="../report/confusion.rst", category="Results"
        ),
    log:
        f"{RESULTS}/logs/plot_confusion/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_confusion/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=20,
    params:
        level=config["figures"]["level"],
    script:
        "../scripts/plot_confusion.py"


rule plot_embedding:
    """Map of the wells of one pair in feature space, before and after adaptation."""
    input:
        home=predictions_of("unadapted", "{source}"),
        before=predictions_of("unadapted", "{target}"),
        after=predictions_of("coda", "{target}"),
        code=code("plot_embedding"),
    output:
        **figure(f"embedding/{PER_PAIR}"),
        png=report(
            f"{FIGURES}/embedding/{PER_PAIR}.png", caption="../report/embedding.rst", category="Results"
        ),
    log:
        f"{RESULTS}/logs/plot_embedding/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_embedding/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=60,
    script:
        "../scripts/plot_embedding.py"


rule plot_training:
    """Curves of everything trained on a source."""
    input:
        logs=lambda wildcards: list(training_logs(wildcards).values()),
        code=code("plot_training"),
    output:
        **figure("training/{source}_seed_{seed}"),
        png=report(
            f"{FIGURES}/training/{{source}}_seed_{{seed}}.png",
            caption="../report/training.rst",
            category="Training",
        ),
    log:
        f"{RESULTS}/logs/plot_training/{{source}}_seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_training/{{source}}_seed_{{seed}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=20,
    params:
        names=lambda wildcards: list(training_logs(wildcards)),
        prototypes=config["head"]["prototypes"],
    script:
        "../scripts/plot_training.py"


rule plot_sites_lost:
    """Map of the sites lost on the plates of a source."""
    input:
        quality=quality_of,
        code=code("plot_sites_lost"),
    output:
        **figure("sites_lost/{source}"),
        png=report(
            f"{FIGURES}/sites_lost/{{source}}.png", caption="../report/sites_lost.rst", category="Data"
        ),
    log:
        f"{RESULTS}/logs/plot_sites_lost/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_sites_lost/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=20,
    script:
        "../scripts/plot_sites_lost.py"


rule plot_crops:
    """The same compounds as each source imaged them."""
    input:
        crops=lambda wildcards: [crops_of(source, "train")[0] for source in SOURCES],
        code=code("plot_crops"),
    output:
        **figure("crops"),
        png=report(f"{FIGURES}/crops.png", caption="../report/crops.rst", category="Data"),
    log:
        f"{RESULTS}/logs/plot_crops.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_crops.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=20,
    params:
        compounds=config["figures"]["compounds"],
    script:
        "../scripts/plot_crops.py"


rule plot_quality:
    """Quality of one plate: maps of the measures, worst and random sites, illumination functions."""
    input:
        quality=rules.inspect_plate.output.quality,
        crops=rules.extract_crops.output.crops,
        illumination=rules.estimate_illumination.output.illumination,
        code=code("plot_quality"),
    output:
        measures=f"{FIGURES}/quality/{{source}}/{{plate}}_measures.png",
        sites=f"{FIGURES}/quality/{{source}}/{{plate}}_sites.png",
        illumination=f"{FIGURES}/quality/{{source}}/{{plate}}_illumination.png",
    log:
        f"{RESULTS}/logs/plot_quality/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_quality/{{source}}/{{plate}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=20,
    params:
        channels=config["channels"],
    script:
        "../scripts/plot_quality.py"


rule write_report:
    """Put findings, figures, tables, settings and versions into one HTML file."""
    input:
        summary=rules.score_predictions.output.summary,
        quality=all_quality,
        plates=f"{RESULTS}/metadata/plates.csv",
        figures=all_figures,
        template="scripts/coda/report.html.jinja",
        code=code("write_report"),
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
        runtime=20,
    params:
        config=config,
        figures=FIGURES,
    script:
        "../scripts/write_report.py"
