"""Which files a rule needs, where that depends on wildcards, on the config or on the chosen plates."""

import csv


@cache
def read_plates(path):
    """Read the chosen plates: a list of (source, plate, subset)."""
    with open(path) as file:
        rows = csv.DictReader(file)
        return [(row["Metadata_Source"], row["Metadata_Plate"], row["subset"]) for row in rows]


def plates_of(source, *subsets):
    """Give the plates of a source in the given subsets (all by default), once they are chosen."""
    table = read_plates(checkpoints.select_plates.get().output.plates)
    return [
        plate
        for owner, plate, subset in table
        if owner == source and (not subsets or subset in subsets)
    ]


def crops_of(source, *subsets):
    """Give the crop files of a source's plates."""
    return [f"{RESULTS}/crops/{source}/{plate}.arrow" for plate in plates_of(source, *subsets)]


def train_crops(wildcards):
    """Plates of the source that train."""
    return crops_of(wildcards.source, "train")


def validation_crops(wildcards):
    """The source's validation plate."""
    return crops_of(wildcards.source, "validation")


def adaptation_crops(wildcards):
    """Plates of the target that a foundation adapts to: all but the one kept out."""
    return crops_of(wildcards.target, "train")


def tested_crops(wildcards):
    """Plates to predict: all of a target, only the validation plate at home."""
    subsets = ["validation"] if wildcards.source == wildcards.target else []
    return crops_of(wildcards.target, *subsets)


def all_crops(wildcards):
    """Crops of every plate that takes part."""
    return [path for source in SOURCES for path in crops_of(source)]


def all_quality(wildcards):
    """Quality tables of every plate that takes part."""
    return [
        f"{RESULTS}/quality/{source}/{plate}.parquet"
        for source in SOURCES
        for plate in plates_of(source)
    ]


def foundation_of(wildcards):
    """The foundation behind a method; the supervised baseline has none."""
    if wildcards.method == "supervised":
        return []
    path = rules.pretrain_foundation.output.foundation
    return path if wildcards.method == "unadapted" else rules.adapt_foundation.output.foundation


def classifier_of(wildcards):
    """The classifier behind a method."""
    if wildcards.method == "supervised":
        return rules.train_supervised.output.weights
    return rules.train_classifier.output.weights


def all_predictions(wildcards):
    """Predictions of every method for every pair, and at home of those that are not adapted."""
    return [
        PREDICTIONS.format(source=source, seed=seed, method=method, target=target)
        for source, target in sorted({*PAIRS, *((source, source) for source, _ in PAIRS)})
        for seed in SEEDS
        for method in config["methods"]
        if source != target or method not in ADAPTATIONS
    ]


def predictions_of(method, target):
    """Name the predictions of one method; `target` may be the source itself."""
    return PREDICTIONS.replace("{method}", method).replace("{target}", target)


def training_logs(wildcards):
    """Logs of everything trained on a source with one seed."""
    model = MODEL.format(**wildcards)
    logs = {
        "pretraining": f"{model}/pretraining.parquet",
        "task model": f"{model}/task_model.parquet",
    }
    if "supervised" in config["methods"]:
        logs["supervised"] = f"{model}/supervised.parquet"
    for source, target in PAIRS:
        if source == wildcards.source:
            for method in ADAPTATIONS:
                logs[f"{method} on {target}"] = (
                    f"{model}/adapted/{target}/{method}/adaptation.parquet"
                )
    return logs


def quality_of(wildcards):
    """Quality tables of a source's plates."""
    return [
        f"{RESULTS}/quality/{wildcards.source}/{plate}.parquet"
        for plate in plates_of(wildcards.source)
    ]


def all_figures(wildcards):
    """Pictures of all figures, in the order of the report."""
    stems = ["accuracy", "crops"]
    for name in ("confusion", "embedding") if "coda" in config["methods"] else ():
        for source, target in PAIRS:
            pair = PER_PAIR.format(source=source, target=target, seed=SEEDS[0])
            stems.append(f"{name}/{pair}")
    stems += [
        f"training/{source}_seed_{seed}" for source in config["train_sources"] for seed in SEEDS
    ]
    stems += [f"sites_lost/{source}" for source in SOURCES]
    stems += [
        f"quality/{source}/{plate}_{kind}"
        for source in SOURCES
        for plate in plates_of(source)
        for kind in ("measures", "sites", "illumination")
    ]
    return [f"{FIGURES}/{stem}.png" for stem in stems]


def all_weights(wildcards):
    """Weights of everything that was trained."""
    names = ["foundation", "task_model"] + ["supervised"] * ("supervised" in config["methods"])
    weights = []
    for source in config["train_sources"]:
        for seed in SEEDS:
            model = MODEL.format(source=source, seed=seed)
            weights += [f"{model}/{name}.safetensors" for name in names]
    for source, target in PAIRS:
        for seed in SEEDS:
            for method in ADAPTATIONS:
                adapted = ADAPTED.format(source=source, seed=seed, target=target, method=method)
                weights.append(f"{adapted}/foundation.safetensors")
    return weights


def all_manifests(wildcards):
    """Manifests of every plate that takes part."""
    return [
        f"{RESULTS}/manifests/{source}/{plate}.parquet"
        for source in SOURCES
        for plate in plates_of(source)
    ]
