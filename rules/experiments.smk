"""Experiments beside the standard run: growing numbers of plates, plate after plate, new compounds, half of the mechanisms.

Needs: crops, the foundation and networks of the training source, predictions of the standard run.
Gives: models/<source>/seed_<n>/adapted/<target>/<experiment>/<method>/, known_compounds/ beside the task model,
<results>/experiments/<source>/seed_<n>/<experiment>/<method>/<target>.parquet and <results>/experiments.csv.

An experiment is named plates_<n>, online_<step>, mix or compounds.
"""

from coda.evaluation.experiments import in_batch_order, plate_counts, spread_over_batches, stretched

EXPERIMENTS = config["experiments"]["run"]
CHOICE = f"{RESULTS}/experiments/{{source}}/seed_{{seed}}/{{choice}}.csv"
ADAPTED_IN = f"{MODEL}/adapted/{{target}}/{{experiment}}/{{method}}"
PREDICTED_IN = (
    f"{RESULTS}/experiments/{{source}}/seed_{{seed}}/{{experiment}}/{{method}}/{{target}}.parquet"
)
# Methods with aligned tokens that the config compares: all of them see half of the mechanisms, for new compounds
# those of the pipeline as trained and of CODA stand beside these two.
ALIGNED = [
    name
    for name in config["methods"]
    if COMPOSED[name].alignment and COMPOSED[name].kind == "network"
]
# The consensus expects the mechanisms in the shares that they have in the training source.
CONSENSUS = [
    name
    for name in config["methods"]
    if COMPOSED[name].adaptation == "coda_consensus"
    and COMPOSED[name].kind == "network"
    and not COMPOSED[name].alignment
]
# Filters made of all wells would have seen the mechanisms that are left away.
WITH_MIX = [
    "coda",
    *(
        name
        for name in [*ALIGNED, *CONSENSUS]
        if not COMPOSED[name].harmonised or config["harmonise"]["reference"] == "controls"
    ),
]
WITH_NEW_COMPOUNDS = [
    "unadapted",
    "coda",
    *(name for name in ALIGNED if COMPOSED[name].adaptation in ("unadapted", "coda")),
]
WITH_NEW_COMPOUNDS_AT_HOME = [name for name in WITH_NEW_COMPOUNDS if COMPOSED[name].at_home]
KNOWN_COMPOUNDS = f"{MODEL}/known_compounds/task_model"
CONTROLS = names_of("control")


wildcard_constraints:
    number=r"\d+",
    step=r"\d+",
    choice="compounds|mix",


ruleorder: predict_home_new_compounds > predict_new_compounds


def choice_file(choice):
    """The compounds or mechanisms chosen for a training run."""
    return CHOICE.replace("{choice}", choice)


def within(path, experiment):
    """A path of this experiment."""
    return path.replace("{experiment}", experiment)


rule choose_compounds:
    """Choose the compounds that the classifier learns from, or the mechanisms that there are on a target."""
    input:
        quality=lambda wildcards: [
            f"{RESULTS}/quality/{wildcards.source}/{plate}.parquet"
            for plate in plates_of(wildcards.source, "train")
        ],
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
        code=code("choose_compounds"),
    script:
        "../scripts/choose_compounds.py"


def adaptation_plates(target):
    """Give batch and plate of what adaptation may see of a target."""
    return [
        (row["Metadata_Batch"], plate)
        for (owner, plate), row in chosen_plates().items()
        if owner == target and row["subset"] == "train"
    ]


def crops_of_plates(source, plates):
    """Give the crop files of some plates."""
    return [f"{RESULTS}/crops/{source}/{plate}.arrow" for plate in plates]


def stretched_adaptation(factor):
    """Input function: the settings of a method's adaptation that takes `factor` times the epochs."""

    def settings(wildcards):
        usual = adaptation_settings(wildcards)
        return usual | {"training": stretched(usual["training"], factor)}

    return settings


def counted_crops(wildcards):
    """As many plates of the target as are adapted to, from as many batches as they can come from."""
    plates = spread_over_batches(adaptation_plates(wildcards.target))
    return crops_of_plates(wildcards.target, plates[: int(wildcards.number)])


def counted_settings(wildcards):
    """Settings with about as many steps as the standard run has, as if plates had equal sites."""
    factor = len(adaptation_plates(wildcards.target)) / int(wildcards.number)
    return stretched_adaptation(factor)(wildcards)


use rule adapt_foundation as adapt_to_plates with:
    input:
        unpack(adaptation_guides),
        crops=counted_crops,
        home=home_crops,
        networks=rules.pretrain_foundation.output.networks,
    output:
        foundation=within(f"{ADAPTED_IN}/foundation.safetensors", "plates_{number}"),
        log=within(f"{ADAPTED_IN}/adaptation.parquet", "plates_{number}"),
    log:
        f"{RESULTS}/logs/adapt_to_plates/{{source}}/seed_{{seed}}/{{target}}_{{number}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_to_plates/{{source}}/seed_{{seed}}/{{target}}_{{number}}_{{method}}.tsv"
    wildcard_constraints:
        method="coda",
    params:
        settings=counted_settings,
        experiment=lambda wildcards: f"plates_{wildcards.number}",


# With half of the mechanisms, epochs of half of the sites: twice as many of them.
use rule adapt_foundation as adapt_to_mix with:
    input:
        unpack(adaptation_guides),
        crops=adaptation_crops,
        home=home_crops,
        networks=rules.pretrain_foundation.output.networks,
        filters=filters_of,
        choice=choice_file("mix"),
    output:
        foundation=within(f"{ADAPTED_IN}/foundation.safetensors", "mix"),
        log=within(f"{ADAPTED_IN}/adaptation.parquet", "mix"),
    log:
        f"{RESULTS}/logs/adapt_to_mix/{{source}}/seed_{{seed}}/{{target}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_to_mix/{{source}}/seed_{{seed}}/{{target}}_{{method}}.tsv"
    params:
        settings=stretched_adaptation(2),
        experiment="mix",


def online_crops(wildcards):
    """The plate of a step of the chain."""
    plates = in_batch_order(adaptation_plates(wildcards.target))
    return crops_of_plates(wildcards.target, [plates[int(wildcards.step) - 1]])


def online_start(wildcards):
    """Networks that a step of the chain starts from: those of the step before, or of the training source."""
    if wildcards.step == "1":
        return rules.pretrain_foundation.output.networks
    before = f"online_{int(wildcards.step) - 1}"
    return within(f"{ADAPTED_IN}/networks.safetensors", before)


# The chain: each plate's adaptation goes on from the networks of the plate before, for a few epochs.
use rule adapt_foundation as adapt_online with:
    input:
        unpack(adaptation_guides),
        crops=online_crops,
        home=[],
        networks=online_start,
    output:
        foundation=within(f"{ADAPTED_IN}/foundation.safetensors", "online_{step}"),
        networks=within(f"{ADAPTED_IN}/networks.safetensors", "online_{step}"),
        log=within(f"{ADAPTED_IN}/adaptation.parquet", "online_{step}"),
    log:
        f"{RESULTS}/logs/adapt_online/{{source}}/seed_{{seed}}/{{target}}_{{step}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_online/{{source}}/seed_{{seed}}/{{target}}_{{step}}_{{method}}.tsv"
    wildcard_constraints:
        method="coda",
    params:
        settings=stretched_adaptation(
            config["experiments"]["online_epochs"] / config["adapt"]["epochs"]
        ),
        experiment=lambda wildcards: f"online_{wildcards.step}",


use rule train_classifier as train_known_compounds with:
    input:
        crops=training_crops,
        validation=held_out_crops,
        weights=START,
        foundation=rules.pretrain_foundation.output.foundation,
        compounds=rules.label_compounds.output.compounds,
        choice=choice_file("compounds"),
    output:
        weights=f"{KNOWN_COMPOUNDS}.safetensors",
        log=f"{KNOWN_COMPOUNDS}.parquet",
    log:
        f"{RESULTS}/logs/train_known_compounds/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_known_compounds/{{source}}/seed_{{seed}}.tsv"


def adapted_in(experiment):
    """Name the foundation behind a method in an experiment: adapted in it, or as it was."""

    def foundation(method):
        if COMPOSED[method].adaptation not in ADAPTATIONS:
            return foundation_of(method)
        adapted = within(f"{ADAPTED_IN}/foundation.safetensors", experiment)
        return adapted.replace("{method}", COMPOSED[method].foundation)

    return foundation


use rule predict_sites as predict_after_plates with:
    input:
        unpack(weights_behind(["coda"], adapted_in("plates_{number}"))),
        crops=target_crops,
    output:
        coda=within(outputs_of(PREDICTED_IN, ["coda"])["coda"], "plates_{number}"),
    log:
        f"{RESULTS}/logs/predict_after_plates/{{source}}/seed_{{seed}}/{{target}}_{{number}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_after_plates/{{source}}/seed_{{seed}}/{{target}}_{{number}}.tsv"
    params:
        methods=told_apart(["coda"]),


def online_tested_crops(wildcards):
    """The plates seen so far, the next one, the held-out one, and that of the training source."""
    plates = in_batch_order(adaptation_plates(wildcards.target))
    return [
        *crops_of(wildcards.source, "validation"),
        *crops_of_plates(wildcards.target, plates[: int(wildcards.step) + 1]),
        *crops_of(wildcards.target, "validation"),
    ]


use rule predict_sites as predict_online with:
    input:
        unpack(weights_behind(["coda"], adapted_in("online_{step}"))),
        crops=online_tested_crops,
    output:
        coda=within(outputs_of(PREDICTED_IN, ["coda"])["coda"], "online_{step}"),
    log:
        f"{RESULTS}/logs/predict_online/{{source}}/seed_{{seed}}/{{target}}_{{step}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_online/{{source}}/seed_{{seed}}/{{target}}_{{step}}.tsv"
    params:
        methods=told_apart(["coda"]),


use rule predict_sites as predict_mix with:
    input:
        unpack(weights_behind(WITH_MIX, adapted_in("mix"))),
        crops=target_crops,
        choice=choice_file("mix"),
    output:
        **outputs_of(within(PREDICTED_IN, "mix"), WITH_MIX),
    log:
        f"{RESULTS}/logs/predict_mix/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_mix/{{source}}/seed_{{seed}}/{{target}}.tsv"
    params:
        methods=told_apart(WITH_MIX),


def knowing_some(method):
    """Name the classifier that learned from some compounds only."""
    return f"{KNOWN_COMPOUNDS}.safetensors"


use rule predict_sites as predict_new_compounds with:
    input:
        unpack(weights_behind(WITH_NEW_COMPOUNDS, classifier=knowing_some)),
        crops=target_crops,
    output:
        **outputs_of(within(PREDICTED_IN, "compounds"), WITH_NEW_COMPOUNDS),
    log:
        f"{RESULTS}/logs/predict_new_compounds/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_new_compounds/{{source}}/seed_{{seed}}/{{target}}.tsv"
    params:
        methods=told_apart(WITH_NEW_COMPOUNDS),


use rule predict_sites as predict_home_new_compounds with:
    input:
        unpack(weights_behind(WITH_NEW_COMPOUNDS_AT_HOME, classifier=knowing_some)),
        crops=held_out_crops,
    output:
        **outputs_of(
            within(PREDICTED_IN, "compounds").replace("{target}", "{source}"),
            WITH_NEW_COMPOUNDS_AT_HOME,
        ),
    log:
        f"{RESULTS}/logs/predict_home_new_compounds/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_home_new_compounds/{{source}}/seed_{{seed}}.tsv"
    params:
        methods=told_apart(WITH_NEW_COMPOUNDS_AT_HOME),


use rule predict_controls as predict_new_compounds_by_controls with:
    input:
        training=rules.measure_intensities.output.intensities,
        target=rules.measure_intensities.output.intensities.replace("{source}", "{target}"),
        plates=f"{RESULTS}/metadata/plates.csv",
        choice=choice_file("compounds"),
    output:
        **outputs_of(within(PREDICTED_IN, "compounds"), CONTROLS),
    log:
        f"{RESULTS}/logs/predict_new_compounds_by_controls/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_new_compounds_by_controls/{{source}}/seed_{{seed}}/{{target}}.tsv"


def standard_parts(source, target):
    """Name what the experiments use of the standard run's predictions, as experiment, method and predicted source."""
    methods = ["unadapted"]
    if "plates" in EXPERIMENTS:
        methods.append("coda")
    if "mix" in EXPERIMENTS:
        methods += WITH_MIX
    return [
        ("standard", "unadapted", source),
        *(("standard", method, target) for method in methods),
    ]


def special_parts(source, target):
    """Name the predictions of the experiments themselves, as experiment, method and predicted source."""
    parts, total = [], len(adaptation_plates(target))
    if "plates" in EXPERIMENTS:
        *fewer, _ = plate_counts(total, config["experiments"]["plates"])
        parts += [(f"plates_{number}", "coda", target) for number in fewer]
    if "online" in EXPERIMENTS:
        parts += [(f"online_{step + 1}", "coda", target) for step in range(total)]
    if "compounds" in EXPERIMENTS:
        parts += [("compounds", method, target) for method in (*WITH_NEW_COMPOUNDS, *CONTROLS)]
        at_home = (*WITH_NEW_COMPOUNDS_AT_HOME, *CONTROLS)
        parts += [("compounds", method, source) for method in at_home]
    if "mix" in EXPERIMENTS:
        parts += [("mix", method, target) for method in WITH_MIX]
    return parts


def experiment_runs():
    """Predictions of all experiments that are switched on, and of the standard run beside them, and what each is."""
    found = sorted(
        {
            (source, seed, *part)
            for source, target in PAIRS
            for seed in SEEDS
            for part in (*standard_parts(source, target), *special_parts(source, target))
        }
    )
    keys = ("train_source", "seed", "experiment", "method", "target_source")
    return [dict(zip(keys, each)) for each in found]


def experiment_predictions(wildcards):
    """Files of predictions, in the order of `experiment_runs`."""
    return [
        (PREDICTIONS if run["experiment"] == "standard" else PREDICTED_IN).format(
            source=run["train_source"], target=run["target_source"], **run
        )
        for run in experiment_runs()
    ]


CHOICES = [
    {"train_source": source, "seed": seed, "choice": choice}
    for source in config["train_sources"]
    for seed in SEEDS
    for choice in ("compounds", "mix")
    if choice in EXPERIMENTS
]


rule score_experiments:
    """Score the experiments that the config switches on, with bootstrap intervals over wells."""
    input:
        plates=f"{RESULTS}/metadata/plates.csv",
        predictions=experiment_predictions,
        choices=[CHOICE.format(source=each["train_source"], **each) for each in CHOICES],
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
        runs=lambda wildcards: experiment_runs(),
        choices=CHOICES,
        experiments=EXPERIMENTS,
        counts=config["experiments"]["plates"],
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
        code=code("score_experiments"),
    script:
        "../scripts/score_experiments.py"
