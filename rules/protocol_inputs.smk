"""Which files a protocol needs: plates in its order, what it starts from, what is scored."""

from coda.evaluation.experiments import in_batch_order, plate_counts, spread_over_batches, stretched

PROTOCOLS = config["protocols"]["run"]
PROTOCOL_FIGURES = [
    figure
    for protocol, figure in {
        "plates": "plates_curve",
        "online": "online",
        "compounds": "new_compounds",
        "mix": "class_mix",
    }.items()
    if protocol in PROTOCOLS
]
CHOICE = f"{RESULTS}/protocols/{{source}}/seed_{{seed}}/{{choice}}.csv"
ADAPTED_IN = f"{MODEL}/adapted/{{target}}/{{protocol}}/{{method}}"
PREDICTED_IN = (
    f"{RESULTS}/protocols/{{source}}/seed_{{seed}}/{{protocol}}/{{method}}/{{target}}.parquet"
)
# Methods with aligned tokens that the config compares: all of them see half of the mechanisms, for new compounds
# those of the pipeline as trained and of CODA stand beside these two.
ALIGNED = [
    name
    for name in config["methods"]
    if COMPOSED[name].alignment and COMPOSED[name].kind == "network"
]
ALIGNED_PLAIN = [name for name in ALIGNED if COMPOSED[name].adaptation in ("unadapted", "coda")]
KNOWN_COMPOUNDS = f"{MODEL}/known_compounds/task_model"


def number_of(protocol):
    """Give the number at the end of a protocol's name."""
    return int(protocol.split("_")[1])


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


def protocol_crops(wildcards):
    """Plates that a protocol adapts to: so many as its name says, or all but the one kept out."""
    plates = spread_over_batches(adaptation_plates(wildcards.target))
    if wildcards.protocol != "mix":
        plates = plates[: number_of(wildcards.protocol)]
    return target_crops(wildcards, plates)


def protocol_settings(wildcards):
    """Settings with about as many steps as the standard run has, as if plates, and halves of the mechanisms, had equal sites."""
    if wildcards.protocol == "mix":
        return stretched_adaptation(2)
    total = len(adaptation_plates(wildcards.target))
    return stretched_adaptation(total / number_of(wildcards.protocol))


def choice_of(wildcards):
    """The compounds that a step may see; all of them but where half of the mechanisms are missing."""
    return CHOICE.replace("{choice}", "mix") if wildcards.protocol == "mix" else []


def online_crops(wildcards):
    """The plate of a step of the chain."""
    plates = in_batch_order(adaptation_plates(wildcards.target))
    return target_crops(wildcards, [plates[number_of(wildcards.protocol) - 1]])


def online_start(wildcards):
    """Networks that a step of the chain starts from: those of the step before, or of step 1 of CODA."""
    step = number_of(wildcards.protocol)
    if step == 1:
        return rules.pretrain_foundation.output.networks
    return f"{ADAPTED_IN}/networks.safetensors".replace("{protocol}", f"online_{step - 1}")


def online_settings(wildcards):
    """Settings of a step of the chain: a few epochs."""
    return stretched_adaptation(config["protocols"]["online_epochs"] / config["adapt"]["epochs"])


def protocol_tested_crops(wildcards):
    """Plates to predict: as in the standard run, or online the plates seen so far, the next, the one kept out, and home."""
    if not wildcards.protocol.startswith("online"):
        return tested_crops(wildcards)
    plates = in_batch_order(adaptation_plates(wildcards.target))
    near = plates[: number_of(wildcards.protocol) + 1]
    return [
        *crops_of(wildcards.source, "validation"),
        *target_crops(wildcards, near),
        *crops_of(wildcards.target, "validation"),
    ]


def protocol_foundation(wildcards):
    """The foundation behind a prediction; new compounds are read with those of the standard run."""
    adaptation = COMPOSED[wildcards.method].adaptation
    if wildcards.protocol == "compounds" or adaptation not in ADAPTATIONS:
        return foundation_of(wildcards)
    return f"{ADAPTED_IN}/foundation.safetensors".replace("{method}", adaptation)


def protocol_classifier(wildcards):
    """The classifier behind a prediction."""
    if wildcards.protocol == "compounds":
        return f"{KNOWN_COMPOUNDS}.safetensors"
    return rules.train_classifier.output.weights


def standard_parts(source, target):
    """Name what the protocols use of the standard run's predictions, as method and predicted source."""
    methods = ["unadapted"]
    if {"plates", "mix"} & {*PROTOCOLS}:
        methods.append("coda")
    if "mix" in PROTOCOLS:
        methods += ALIGNED
    return [("unadapted", source), *((method, target) for method in methods)]


def special_parts(source, target):
    """Name the predictions of the protocols themselves, as protocol, method and predicted source."""
    parts, total = [], len(adaptation_plates(target))
    if "plates" in PROTOCOLS:
        *fewer, _ = plate_counts(total, config["protocols"]["plates"])
        parts += [(f"plates_{count}", "coda", target) for count in fewer]
    if "online" in PROTOCOLS:
        parts += [(f"online_{step + 1}", "coda", target) for step in range(total)]
    if "compounds" in PROTOCOLS:
        methods = ("unadapted", "intensity", "position", "coda", *ALIGNED_PLAIN)
        parts += [("compounds", method, target) for method in methods]
        parts += [("compounds", method, source) for method in methods if COMPOSED[method].at_home]
    if "mix" in PROTOCOLS:
        parts += [("mix", method, target) for method in ("coda", *ALIGNED)]
    return parts


def protocol_predictions(wildcards):
    """Predictions of all protocols that the config switches on, and those of the standard run beside them."""
    paths = set()
    for source, target in PAIRS:
        for seed in SEEDS:
            paths |= {
                PREDICTIONS.format(source=source, seed=seed, method=method, target=place)
                for method, place in standard_parts(source, target)
            } | {
                PREDICTED_IN.format(
                    source=source, seed=seed, protocol=protocol, method=method, target=place
                )
                for protocol, method, place in special_parts(source, target)
            }
    return sorted(paths)
