"""Everything a reader looks at, drawn from results alone: no rule here needs a GPU.

In: metrics, predictions, training logs, crops and quality tables.
Out: <results>/figures/*.pdf, .png and .csv (the table behind each), and <results>/report.html.
"""


rule plot_accuracy:
    """Bars of accuracy with intervals, from one training source to every target."""
    input:
        summary=rules.score_predictions.output.summary,
        code=code("plot_accuracy"),
    output:
        **figure("accuracy/{source}"),
        png=report(
            f"{FIGURES}/accuracy/{{source}}.png",
            caption="../report/accuracy.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_accuracy/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_accuracy/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
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
            f"{FIGURES}/confusion/{PER_PAIR}.png",
            caption="../report/confusion.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_confusion/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_confusion/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
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
            f"{FIGURES}/embedding/{PER_PAIR}.png",
            caption="../report/embedding.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_embedding/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_embedding/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
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
        runtime=growing(20),
    params:
        names=lambda wildcards: list(training_logs(wildcards)),
        prototypes=config["head"]["prototypes"],
    script:
        "../scripts/plot_training.py"


rule plot_sites_lost:
    """Map of the sites lost on the plates of a source."""
    input:
        quality=lambda wildcards: tables_of("quality", wildcards.source),
        code=code("plot_sites_lost"),
    output:
        **figure("sites_lost/{source}"),
        png=report(
            f"{FIGURES}/sites_lost/{{source}}.png",
            caption="../report/sites_lost.rst",
            category="Data",
        ),
    log:
        f"{RESULTS}/logs/plot_sites_lost/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_sites_lost/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
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
        runtime=growing(20),
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
        functions=GALLERY_FUNCTIONS,
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
        runtime=growing(20),
    params:
        channels=config["channels"],
        illumination=config["crops"]["illumination"],
    script:
        "../scripts/plot_quality.py"


rule write_report:
    """Put findings, figures, tables, settings and versions into one HTML file."""
    input:
        summary=rules.score_predictions.output.summary,
        representation=rules.merge_representation.output.representation,
        quality=all_quality,
        plates=f"{RESULTS}/metadata/plates.csv",
        experiments=rules.score_experiments.output.scores if EXPERIMENTS else [],
        figures=all_figures,
        template=local(os.path.relpath(SCRIPTS / "coda/report/report.html.jinja")),
        captions=[
            local(os.path.relpath(path)) for path in sorted(SCRIPTS.parent.glob("report/*.rst"))
        ],
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
        runtime=growing(20),
    params:
        config=config,
        figures=FIGURES,
    script:
        "../scripts/write_report.py"
