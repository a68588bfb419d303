"""Experiments beside the standard one: growing numbers of plates, plate after plate, new compounds, half of the mechanisms.

In: crops, the foundation and networks of step 1, predictions of the standard run.
Out: models/<source>/seed_<n>/adapted/<target>/<experiment>/<method>/, known_compounds/ beside the task model,
<results>/experiments/<source>/seed_<n>/<experiment>/<method>/<target>.parquet and <results>/experiments.csv.

An experiment is named plates_<n>, online_<step>, mix or compounds.
"""


wildcard_constraints:
    experiment=r"plates_\d+|online_\d+|mix|compounds",
    choice="compounds|mix",


rule choose_compounds:
    """Choose the compounds that the classifier learns from, or the mechanisms that there are on a target."""
    input:
        quality=lambda wildcards: [
            f"{RESULTS}/quality/{wildcards.source}/{plate}.parquet"
            for plate in plates_of(wildcards.source, "train")
        ],
        code=code("choose_compounds"),
    output:
        choice=CHOICE,
    log:
        f"{RESULTS}/logs/choose_compounds/{{source}}/seed_{{seed}}/{{choice}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose_compounds/{{source}}/seed_{{seed}}/{{choice}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        share=config["experiments"]["known_share"],
    script:
        "../scripts/choose_compounds.py"


use rule adapt_foundation as adapt_experiment with:
    input:
        crops=experiment_crops,
        home=home_crops,
        networks=rules.pretrain_foundation.output.networks,
        choice=choice_of,
        code=code("adapt_foundation"),
    output:
        foundation=f"{ADAPTED_IN}/foundation.safetensors",
        log=f"{ADAPTED_IN}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_experiment/{{source}}/seed_{{seed}}/{{target}}_{{experiment}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_experiment/{{source}}/seed_{{seed}}/{{target}}_{{experiment}}_{{method}}.tsv"
    wildcard_constraints:
        method="|".join(ADAPTATIONS),
        experiment=r"plates_\d+|mix",
    params:
        settings=experiment_settings,


# The chain: each plate's adaptation goes on from the networks of the plate before.
use rule adapt_foundation as adapt_online with:
    input:
        crops=online_crops,
        home=[],
        networks=online_start,
        code=code("adapt_foundation"),
    output:
        foundation=f"{ADAPTED_IN}/foundation.safetensors",
        networks=f"{ADAPTED_IN}/networks.safetensors",
        log=f"{ADAPTED_IN}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_online/{{source}}/seed_{{seed}}/{{target}}_{{experiment}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_online/{{source}}/seed_{{seed}}/{{target}}_{{experiment}}_{{method}}.tsv"
    wildcard_constraints:
        method="coda",
        experiment=r"online_\d+",
    params:
        settings=online_settings,


use rule train_classifier as train_known_compounds with:
    input:
        crops=train_crops,
        validation=validation_crops,
        weights=START,
        foundation=rules.pretrain_foundation.output.foundation,
        compounds=rules.label_compounds.output.compounds,
        choice=CHOICE.replace("{choice}", "compounds"),
        code=code("train_classifier"),
    output:
        weights=f"{KNOWN_COMPOUNDS}.safetensors",
        log=f"{KNOWN_COMPOUNDS}.parquet",
    log:
        f"{RESULTS}/logs/train_known_compounds/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_known_compounds/{{source}}/seed_{{seed}}.tsv"


use rule predict_sites as predict_experiment with:
    input:
        crops=experiment_tested_crops,
        foundation=experiment_foundation,
        classifier=experiment_classifier,
        statistics=statistics_of,
        choice=choice_of,
        code=code("predict_sites"),
    output:
        predictions=PREDICTED_IN,
    log:
        f"{RESULTS}/logs/predict_experiment/{{source}}/seed_{{seed}}/{{experiment}}_{{method}}_{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_experiment/{{source}}/seed_{{seed}}/{{experiment}}_{{method}}_{{target}}.tsv"
    wildcard_constraints:
        method=methods_of("network"),


use rule predict_control as predict_known_compounds with:
    input:
        training=control_training,
        target=control_target,
        plates=f"{RESULTS}/metadata/plates.csv",
        choice=CHOICE.replace("{choice}", "compounds"),
        code=code("predict_control"),
    output:
        predictions=PREDICTED_IN,
    log:
        f"{RESULTS}/logs/predict_known_compounds/{{source}}/seed_{{seed}}/{{experiment}}_{{method}}_{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_known_compounds/{{source}}/seed_{{seed}}/{{experiment}}_{{method}}_{{target}}.tsv"
    wildcard_constraints:
        method="intensity|position",
        experiment="compounds",


rule score_experiments:
    """Score the experiments that the config switches on, with bootstrap intervals over wells."""
    input:
        plates=f"{RESULTS}/metadata/plates.csv",
        predictions=experiment_predictions,
        choices=[
            CHOICE.format(source=source, seed=seed, choice=choice)
            for source in config["train_sources"]
            for seed in SEEDS
            for choice in ("compounds", "mix")
            if choice in EXPERIMENTS
        ],
        code=code("score_experiments"),
    output:
        scores=f"{RESULTS}/experiments.csv",
    log:
        f"{RESULTS}/logs/score_experiments.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_experiments.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(480),
    params:
        experiments=EXPERIMENTS,
        counts=config["experiments"]["plates"],
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
    script:
        "../scripts/score_experiments.py"


rule plot_plates_curve:
    """Accuracy over the number of plates adapted to."""
    input:
        scores=rules.score_experiments.output.scores,
        code=code("plot_plates_curve"),
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
    script:
        "../scripts/plot_plates_curve.py"


rule plot_online:
    """Accuracy plate after plate, and what was forgotten."""
    input:
        scores=rules.score_experiments.output.scores,
        code=code("plot_online"),
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
    script:
        "../scripts/plot_online.py"


rule plot_new_compounds:
    """Accuracy on compounds that the classifier learned from, and on new ones."""
    input:
        scores=rules.score_experiments.output.scores,
        code=code("plot_new_compounds"),
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
    script:
        "../scripts/plot_new_compounds.py"


rule plot_class_mix:
    """Accuracy on half of the mechanisms of action, by what adaptation and alignment saw."""
    input:
        scores=rules.score_experiments.output.scores,
        code=code("plot_class_mix"),
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
    script:
        "../scripts/plot_class_mix.py"
