"""Which files a rule needs, where that depends on wildcards, on the config or on the chosen plates."""

import csv
from types import SimpleNamespace


@cache
def read_plates(path, changed):
    """Read the chosen plates, last changed when `changed` says: by source and plate, what is said of them."""
    with open(path) as file:
        rows = csv.DictReader(file)
        return {(row["Metadata_Source"], row["Metadata_Plate"]): row for row in rows}


def chosen_plates():
    """Give the chosen plates, once they are chosen."""
    path = checkpoints.select_plates.get().output.plates
    return read_plates(path, os.stat(path).st_mtime_ns)


def plates_of(source, *subsets):
    """Give the plates of a source in the given subsets (all by default)."""
    return [
        plate
        for (owner, plate), row in chosen_plates().items()
        if owner == source and (not subsets or row["subset"] in subsets)
    ]


def own_place(source, plate):
    """Give what the sample sheet says of where a plate lies: root, load_data, layout.

    Jobs that need the plates only for this do not wait for the checkpoint, whose dependents Snakemake
    plans twice: each has the index of its plate as input, so when it starts the plates are chosen.
    """
    path = f"{RESULTS}/metadata/plates.csv"
    plates = read_plates(path, os.stat(path).st_mtime_ns) if os.path.exists(path) else {}
    row = plates.get((source, plate), {})
    return {key: row[key] for key in ("root", "load_data", "layout") if row.get(key)}


def root_of(source, plate):
    """Give the root below which a plate's keys lie."""
    return own_place(source, plate).get("root", config["gallery"]["root"])


def begun(wildcards):
    """Rank a plate of which an earlier run left images on the disk above the others."""
    images = f"{RESULTS}/images/{wildcards.source}/{wildcards.plate}"
    return int(os.path.isdir(images) or os.path.isdir(f"{images}.partial"))


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


def home_crops(wildcards):
    """Plates of the training source, for the adaptations that see them again."""
    return train_crops(wildcards) if wildcards.method in ("coda_labs", "coda_replay") else []


def tested_crops(wildcards):
    """Plates to predict: all of a target, only the validation plate where the others trained."""
    at_home = wildcards.source == wildcards.target or METHODS[wildcards.method].base == "oracle"
    return crops_of(wildcards.target, *(["validation"] if at_home else []))


def all_crops(wildcards):
    """Crops of every plate that takes part."""
    return [path for source in SOURCES for path in crops_of(source)]


def tables_of(kind, *sources):
    """One table a plate of some sources, of a kind: index, manifests or quality."""
    return [
        f"{RESULTS}/{kind}/{source}/{plate}.parquet"
        for source in sources
        for plate in plates_of(source)
    ]


def all_quality(wildcards):
    """Quality tables of every plate that takes part."""
    return tables_of("quality", *SOURCES)


def foundation_of(wildcards):
    """The foundation behind a method: of step 1, adapted, or the target's own; the supervised baseline has none."""
    base = METHODS[wildcards.method].base
    if base in SUPERVISED:
        return []
    if base in ADAPTATIONS:
        return rules.adapt_foundation.output.foundation.replace("{method}", base)
    return trained_by(rules.pretrain_foundation.output.foundation, base)


def classifier_of(wildcards):
    """The classifier behind a method."""
    method = METHODS[wildcards.method]
    trained = {
        "supervised": rules.train_supervised,
        "supervised_tent": rules.adapt_supervised,
        "shuffled": rules.train_shuffled,
    }
    by = trained.get(method.treatment) or trained.get(method.base) or rules.train_classifier
    return trained_by(by.output.weights, method.base)


def trained_by(path, base):
    """The file at the source that trained it: for the oracle, the target itself."""
    return path.replace("{source}", "{target}") if base == "oracle" else path


def statistics_of(wildcards):
    """Statistics of the training source's tokens, where those of the target are aligned to them."""
    aligned = METHODS[wildcards.method].treatment in ALIGNMENTS
    return rules.measure_tokens.output.statistics if aligned else []


def embeddings_of(wildcards):
    """The predictions that hold the embeddings a probe reads."""
    return PREDICTIONS.replace("{method}", METHODS[wildcards.method].base)


def seen_by_control(method, source, *subsets):
    """What a control reads of a source's plates: their measured intensities, or of the crops the table alone."""
    if method == "position":
        return crops_of(source, *subsets)
    return [INTENSITIES.format(source=source, plate=plate) for plate in plates_of(source, *subsets)]


def control_training(wildcards):
    """What a control learns from."""
    return seen_by_control(wildcards.method, wildcards.source, "train")


def control_target(wildcards):
    """What a control predicts: all plates, at home too, as features are standardised over the plates that train."""
    return seen_by_control(wildcards.method, wildcards.target)


def all_predictions(wildcards):
    """Predictions of every method for every pair, and at home of those that do not adapt to a target."""
    return [
        PREDICTIONS.format(source=source, seed=seed, method=method, target=target)
        for source, target in sorted({*PAIRS, *((source, source) for source, _ in PAIRS)})
        for seed in SEEDS
        for method in config["methods"]
        if source != target or METHODS[method].at_home
    ]


def source_predictions(wildcards):
    """Predictions of everything trained on a source."""
    folder = f"{RESULTS}/predictions/{wildcards.source}/"
    return [path for path in all_predictions(wildcards) if path.startswith(folder)]


def run_predictions(wildcards):
    """Predictions of everything trained on a source with one seed."""
    folder = f"{RESULTS}/predictions/{wildcards.source}/seed_{wildcards.seed}/"
    return [path for path in all_predictions(wildcards) if path.startswith(folder)]


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


def all_figures(wildcards):
    """Pictures of all figures, in the order of the report."""
    stems = [f"accuracy/{source}" for source in sorted({source for source, _ in PAIRS})]
    stems += ["matrix", *EXPERIMENT_FIGURES, "crops"]
    adapted = "coda" in config["methods"]
    stems += ["slopes"] if adapted else []
    for name in ("confusion", "gains", "calibration", "embedding") if adapted else ():
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
    """Weights behind the predictions of every method: foundations and classifiers, each once."""
    weights = set()
    for source, target in PAIRS:
        for seed in SEEDS:
            for method in config["methods"]:
                if METHODS[method].kind != "control":
                    asked = SimpleNamespace(source=source, target=target, seed=seed, method=method)
                    behind = [foundation_of(asked), classifier_of(asked)]
                    weights |= {path.format(**vars(asked)) for path in behind if path}
    return sorted(weights)


def all_manifests(wildcards):
    """Manifests of every plate that takes part."""
    return tables_of("manifests", *SOURCES)
