"""Which files an experiment needs: plates in its order, what it starts from, what is scored."""

from coda.evaluation.experiments import in_batch_order, plate_counts, spread_over_batches, stretched

EXPERIMENTS = config["experiments"]["run"]
EXPERIMENT_FIGURES = [
    figure
    for experiment, figure in {
        "plates": "plates_curve",
        "online": "online",
        "compounds": "new_compounds",
        "mix": "class_mix",
    }.items()
    if experiment in EXPERIMENTS
]
CHOICE = f"{RESULTS}/experiments/{{source}}/seed_{{seed}}/{{choice}}.csv"
ADAPTED_IN = f"{MODEL}/adapted/{{target}}/{{experiment}}/{{method}}"
PREDICTED_IN = (
    f"{RESULTS}/experiments/{{source}}/seed_{{seed}}/{{experiment}}/{{method}}/{{target}}.parquet"
)
# Methods with aligned tokens that the config compares: all of them see half of the mechanisms, for new compounds
# those of the pipeline as trained and of CODA stand beside these two.
ALIGNED = [name for name in config["methods"] if METHODS[name].treatment in ALIGNMENTS]
ALIGNED_PLAIN = [name for name in ALIGNED if METHODS[name].base in ("unadapted", "coda")]
KNOWN_COMPOUNDS = f"{MODEL}/known_compounds/task_model"


def number_of(experiment):
    """Give the number at the end of an experiment's name."""
    return int(experiment.split("_")[1])


def adaptation_plates(target):
    """Give batch and plate of what adaptation may see of a target."""
    return [
        (row["Metadata_Batch"], plate)
        for (owner, plate), row in chosen_plates().items()
        if owner == target and row["subset"] == "train"
    ]


def stretched_adaptation(factor):
    """Collect the settings of an adaptation that takes `factor` times the epochs."""
    settings = training_settings("adapt", "model", "head", "views", "data")
    return settings | {"training": stretched(config["adapt"], factor)}


def target_crops(wildcards, plates):
    """Give the crop files of some plates of the target."""
    return [f"{RESULTS}/crops/{wildcards.target}/{plate}.arrow" for plate in plates]


def experiment_crops(wildcards):
    """Plates that an experiment adapts to: so many as its name says, or all but the one kept out."""
    plates = spread_over_batches(adaptation_plates(wildcards.target))
    if wildcards.experiment != "mix":
        plates = plates[: number_of(wildcards.experiment)]
    return target_crops(wildcards, plates)


def experiment_settings(wildcards):
    """Settings with about as many steps as the standard run has, as if plates, and halves of the mechanisms, had equal sites."""
    if wildcards.experiment == "mix":
        return stretched_adaptation(2)
    total = len(adaptation_plates(wildcards.target))
    return stretched_adaptation(total / number_of(wildcards.experiment))


def choice_of(wildcards):
    """The compounds that a step may see; all of them but where half of the mechanisms are missing."""
    return CHOICE.replace("{choice}", "mix") if wildcards.experiment == "mix" else []


def online_crops(wildcards):
    """The plate of a step of the chain."""
    plates = in_batch_order(adaptation_plates(wildcards.target))
    return target_crops(wildcards, [plates[number_of(wildcards.experiment) - 1]])


def online_start(wildcards):
    """Networks that a step of the chain starts from: those of the step before, or of step 1 of CODA."""
    step = number_of(wildcards.experiment)
    if step == 1:
        return rules.pretrain_foundation.output.networks
    return f"{ADAPTED_IN}/networks.safetensors".replace("{experiment}", f"online_{step - 1}")


def online_settings(wildcards):
    """Settings of a step of the chain: a few epochs."""
    return stretched_adaptation(config["experiments"]["online_epochs"] / config["adapt"]["epochs"])


def experiment_tested_crops(wildcards):
    """Plates to predict: as in the standard run, or online the plates seen so far, the next, the one kept out, and home."""
    if not wildcards.experiment.startswith("online"):
        return tested_crops(wildcards)
    plates = in_batch_order(adaptation_plates(wildcards.target))
    near = plates[: number_of(wildcards.experiment) + 1]
    return [
        *crops_of(wildcards.source, "validation"),
        *target_crops(wildcards, near),
        *crops_of(wildcards.target, "validation"),
    ]


def experiment_foundation(wildcards):
    """The foundation behind a prediction; new compounds are read with those of the standard run."""
    base = METHODS[wildcards.method].base
    if wildcards.experiment == "compounds" or base not in ADAPTATIONS:
        return foundation_of(wildcards)
    return f"{ADAPTED_IN}/foundation.safetensors".replace("{method}", base)


def experiment_classifier(wildcards):
    """The classifier behind a prediction."""
    if wildcards.experiment == "compounds":
        return f"{KNOWN_COMPOUNDS}.safetensors"
    return rules.train_classifier.output.weights


def standard_parts(source, target):
    """Name what the experiments use of the standard run's predictions, as method and predicted source."""
    methods = ["unadapted"]
    if {"plates", "mix"} & {*EXPERIMENTS}:
        methods.append("coda")
    if "mix" in EXPERIMENTS:
        methods += ALIGNED
    return [("unadapted", source), *((method, target) for method in methods)]


def special_parts(source, target):
    """Name the predictions of the experiments themselves, as experiment, method and predicted source."""
    parts, total = [], len(adaptation_plates(target))
    if "plates" in EXPERIMENTS:
        *fewer, _ = plate_counts(total, config["experiments"]["plates"])
        parts += [(f"plates_{count}", "coda", target) for count in fewer]
    if "online" in EXPERIMENTS:
        parts += [(f"online_{step + 1}", "coda", target) for step in range(total)]
    if "compounds" in EXPERIMENTS:
        methods = ("unadapted", "intensity", "position", "coda", *ALIGNED_PLAIN)
        parts += [("compounds", method, target) for method in methods]
        parts += [("compounds", method, source) for method in methods if METHODS[method].at_home]
    if "mix" in EXPERIMENTS:
        parts += [("mix", method, target) for method in ("coda", *ALIGNED)]
    return parts


def experiment_predictions(wildcards):
    """Predictions of all experiments that the config switches on, and those of the standard run beside them."""
    paths = set()
    for source, target in PAIRS:
        for seed in SEEDS:
            paths |= {
                PREDICTIONS.format(source=source, seed=seed, method=method, target=place)
                for method, place in standard_parts(source, target)
            } | {
                PREDICTED_IN.format(
                    source=source, seed=seed, experiment=experiment, method=method, target=place
                )
                for experiment, method, place in special_parts(source, target)
            }
    return sorted(paths)
