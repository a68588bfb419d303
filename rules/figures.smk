"""All figures, drawn from results alone: no rule here needs a GPU.

Needs: scores, predictions, training logs, crops and quality tables.
Gives: <results>/figures/*.pdf, .png and .csv (the table behind each); of the plates of a source, mostly pixels,
<results>/figures/quality/<source>/*.png.
"""

PER_PAIR = "{source}_to_{target}_seed_{seed}"
OF_A_PAIR = ("gains", "confusion", "calibration", "embedding")
PAIR_FIGURES = (*OF_A_PAIR, "attention")
HARMONISATION_FIGURES = ("harmonised_crops", "harmonisation")
EXPERIMENT_FIGURES = {
    "plates": "plates_curve",
    "online": "online",
    "compounds": "new_compounds",
    "mix": "class_mix",
}


def figure(stem):
    """Name the files of a figure without its ending: vector, picture and the table behind it."""
    return dict(pdf=f"{FIGURES}/{stem}.pdf", csv=f"{FIGURES}/{stem}.csv")


rule plot_accuracy:
    """Bars of accuracy with intervals, from one training source to every target."""
    input:
        summary=rules.score_predictions.output.summary,
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
        code=code("plot_accuracy"),
    script:
        "../scripts/plot_accuracy.py"


rule plot_coverage:
    """How often prediction sets hold the right mechanism, beside what was asked for, from one training source."""
    input:
        coverage=rules.score_coverage.output.coverage,
    output:
        **figure("coverage/{source}"),
        png=report(
            f"{FIGURES}/coverage/{{source}}.png",
            caption="../report/coverage.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_coverage/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_coverage/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        code=code("plot_coverage"),
    script:
        "../scripts/plot_coverage.py"


rule plot_matrix:
    """Heat map of accuracy from every training source to every target, at home on the diagonal."""
    input:
        summary=rules.score_predictions.output.summary,
    output:
        **figure("matrix"),
        png=report(f"{FIGURES}/matrix.png", caption="../report/matrix.rst", category="Results"),
    log:
        f"{RESULTS}/logs/plot_matrix.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_matrix.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        code=code("plot_matrix"),
    script:
        "../scripts/plot_matrix.py"


rule plot_slopes:
    """Accuracy before and after adaptation, a line a pair."""
    input:
        summary=rules.score_predictions.output.summary,
    output:
        **figure("slopes"),
        png=report(f"{FIGURES}/slopes.png", caption="../report/slopes.rst", category="Results"),
    log:
        f"{RESULTS}/logs/plot_slopes.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_slopes.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        method=AFTER,
        level=config["figures"]["level"],
        code=code("plot_slopes"),
    script:
        "../scripts/plot_slopes.py"


rule plot_pair:
    """What adaptation did on one pair: gains, confusion matrices, calibration and a map of the wells."""
    input:
        home=PREDICTIONS.format(
            method="unadapted", source="{source}", seed="{seed}", target="{source}"
        ),
        before=PREDICTIONS.replace("{method}", "unadapted"),
        after=PREDICTIONS.replace("{method}", AFTER),
        plates=f"{RESULTS}/metadata/plates.csv",
    output:
        [f"{FIGURES}/{name}/{PER_PAIR}.{ending}" for name in OF_A_PAIR for ending in ("pdf", "csv")],
        **{
            name: report(
                f"{FIGURES}/{name}/{PER_PAIR}.png",
                caption=f"../report/{name}.rst",
                category="Results",
            )
            for name in OF_A_PAIR
        },
    log:
        f"{RESULTS}/logs/plot_pair/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_pair/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        method=AFTER,
        level=config["figures"]["level"],
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
        code=code("plot_pair"),
    script:
        "../scripts/plot_pair.py"


rule plot_attention:
    """Where the networks look on some crops of a pair, and what blanking a channel does to their calls."""
    input:
        explanations=rules.explain_calls.output.explanations,
        home=crops_explained_at_home,
        target=target_crops,
    output:
        **figure(f"attention/{PER_PAIR}"),
        png=report(
            f"{FIGURES}/attention/{PER_PAIR}.png",
            caption="../report/attention.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_attention/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_attention/{PER_PAIR}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        size=config["views"]["global_size"],
        code=code("plot_attention"),
    script:
        "../scripts/plot_attention.py"


def training_logs(wildcards):
    """Logs of everything trained on a source with one seed."""
    model = MODEL.format(**wildcards)
    logs = {
        "pretraining": f"{model}/pretraining.parquet",
        "task model": f"{model}/task_model.parquet",
    }
    for name in ("supervised", "shuffled"):
        if name in config["methods"]:
            logs[name] = f"{model}/{name}.parquet"
    for source, target in PAIRS:
        if source == wildcards.source:
            for method in ADAPTED_BY:
                logs[f"{method} on {target}"] = (
                    f"{model}/adapted/{target}/{method}/adaptation.parquet"
                )
    return logs


rule plot_training:
    """Curves of everything trained on a source."""
    input:
        logs=lambda wildcards: list(training_logs(wildcards).values()),
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
        code=code("plot_training"),
    script:
        "../scripts/plot_training.py"


rule plot_crops:
    """The same compounds as each source imaged them."""
    input:
        crops=lambda wildcards: [crops_of(source, "train")[0] for source in SOURCES],
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
        code=code("plot_crops"),
    script:
        "../scripts/plot_crops.py"


def first_plate(source):
    """The crops of the first plate of a source, to show."""
    return lambda wildcards: crops_of(wildcards[source], "train")[0]


rule plot_harmonisation:
    """How a target's plates are harmonised: filters over frequency, and images before and after."""
    input:
        filters=rules.fit_harmonisation.output.filters,
        target=first_plate("target"),
        training=first_plate("source"),
    output:
        [
            f"{FIGURES}/{name}/{{source}}_to_{{target}}.{ending}"
            for name in HARMONISATION_FIGURES
            for ending in ("pdf", "csv")
        ],
        **{
            name: report(
                f"{FIGURES}/{name}/{{source}}_to_{{target}}.png",
                caption=f"../report/{name}.rst",
                category="Harmonisation",
            )
            for name in HARMONISATION_FIGURES
        },
    log:
        f"{RESULTS}/logs/plot_harmonisation/{{source}}_to_{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_harmonisation/{{source}}_to_{{target}}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        code=code("plot_harmonisation"),
    script:
        "../scripts/plot_harmonisation.py"


def each_plate(path):
    """Input function: a file of every plate of a source."""
    return lambda wildcards: expand(
        path, source=wildcards.source, plate=plates_of(wildcards.source)
    )


rule plot_quality:
    """Quality of a source: the sites lost; of each plate measures, worst and random sites, illumination functions."""
    input:
        quality=each_plate(rules.inspect_plate.output.quality),
        crops=each_plate(rules.extract_crops.output.crops),
        illumination=each_plate(rules.estimate_illumination.output.illumination),
        functions=each_plate(GALLERY_FUNCTIONS),
    output:
        **figure("sites_lost/{source}"),
        png=report(
            f"{FIGURES}/sites_lost/{{source}}.png",
            caption="../report/sites_lost.rst",
            category="Data",
        ),
        plates=directory(f"{FIGURES}/quality/{{source}}"),
    log:
        f"{RESULTS}/logs/plot_quality/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_quality/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    threads: share(len(SOURCES))
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        plates=lambda wildcards: plates_of(wildcards.source),
        channels=config["channels"],
        illumination=config["crops"]["illumination"],
        code=code("plot_quality"),
    script:
        "../scripts/plot_quality.py"


rule plot_plates_curve:
    """Accuracy over the number of plates adapted to."""
    input:
        scores=rules.score_experiments.output.scores,
    output:
        **figure("plates_curve"),
        png=report(
            f"{FIGURES}/plates_curve.png",
            caption="../report/plates_curve.rst",
            category="Experiments",
        ),
    log:
        f"{RESULTS}/logs/plot_plates_curve.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_plates_curve.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        code=code("plot_plates_curve"),
    script:
        "../scripts/plot_plates_curve.py"


rule plot_online:
    """Accuracy plate after plate, and what was forgotten."""
    input:
        scores=rules.score_experiments.output.scores,
    output:
        **figure("online"),
        png=report(f"{FIGURES}/online.png", caption="../report/online.rst", category="Experiments"),
    log:
        f"{RESULTS}/logs/plot_online.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_online.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        code=code("plot_online"),
    script:
        "../scripts/plot_online.py"


rule plot_new_compounds:
    """Accuracy on compounds that the classifier learned from, and on new ones."""
    input:
        scores=rules.score_experiments.output.scores,
    output:
        **figure("new_compounds"),
        png=report(
            f"{FIGURES}/new_compounds.png",
            caption="../report/new_compounds.rst",
            category="Experiments",
        ),
    log:
        f"{RESULTS}/logs/plot_new_compounds.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_new_compounds.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        code=code("plot_new_compounds"),
    script:
        "../scripts/plot_new_compounds.py"


rule plot_class_mix:
    """Accuracy on half of the mechanisms of action, by what adaptation and alignment saw."""
    input:
        scores=rules.score_experiments.output.scores,
    output:
        **figure("class_mix"),
        png=report(
            f"{FIGURES}/class_mix.png", caption="../report/class_mix.rst", category="Experiments"
        ),
    log:
        f"{RESULTS}/logs/plot_class_mix.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_class_mix.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        code=code("plot_class_mix"),
    script:
        "../scripts/plot_class_mix.py"


def all_figures(wildcards):
    """Pictures of all figures, in the order of the report; of the plates of a source the folder."""
    stems = [
        f"{name}/{source}"
        for name in ("accuracy", "coverage")
        for source in sorted({source for source, _ in PAIRS})
    ]
    stems += [
        "matrix",
        *(stem for name, stem in EXPERIMENT_FIGURES.items() if name in EXPERIMENTS),
        "crops",
    ]
    if HARMONISES:
        stems += [
            f"{name}/{source}_to_{target}"
            for name in HARMONISATION_FIGURES
            for source, target in PAIRS
        ]
    if config["figures"]["after"]:
        stems.append("slopes")
        # Without another foundation or other images there is one attention, and nothing to compare it with.
        adapted = COMPOSED[AFTER].foundation != "unadapted"
        stems += [
            f"{name}/{PER_PAIR}".format(source=source, target=target, seed=SEEDS[0])
            for name in (PAIR_FIGURES if adapted else OF_A_PAIR)
            for source, target in PAIRS
        ]
    stems += [
        f"training/{source}_seed_{seed}" for source in config["train_sources"] for seed in SEEDS
    ]
    # Of crops that were cut elsewhere there are no images to judge.
    imaged = [source for source in SOURCES if source not in READY]
    stems += [f"sites_lost/{source}" for source in imaged]
    return [
        *(f"{FIGURES}/{stem}.png" for stem in stems),
        *(f"{FIGURES}/quality/{source}" for source in imaged),
    ]
