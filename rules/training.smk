"""Everything that is trained: foundations, classifiers, and what is adapted to a target without its labels.

Needs: crops of the source's training plates and of its held-out plate, by which the best epoch is kept; for an
adaptation crops of the target's plates but the held-out one, and where they are harmonised their filters.
Gives, below <results>/models/<source>/seed_<n>/: foundation.safetensors (for timm), networks.safetensors (to adapt from)
and model_card.md; task_model, shuffled and supervised.safetensors; tokens.safetensors (statistics of the tokens that the
task model was trained on) and embeddings.parquet (CLS token of each training site); adapted/<target>/<method>/ with the
adapted foundation, or for TENT the adapted baseline; a log of each training beside its weights.
"""

# A file of weights to start from is an input of what starts from it; ImageNet's are fetched into one.
NETWORK = f"{RESULTS}/models/start.safetensors"
START = {"imagenet": [NETWORK], "random": []}.get(
    config["model"]["weights"], [config["model"]["weights"]]
)
# Classifiers see no local views.
GLOBAL_VIEWS = {key: value for key, value in config["views"].items() if "local" not in key}
# What decides which classes a training must see.
CLASS_CHOICE = {key: config["choose"][key] for key in ("wells", "compounds", "moas")}
ADAPTED = f"{MODEL}/adapted/{{target}}/{{method}}"
ADAPTATIONS_AT_ONCE = max(1, len(PAIRS) * len(SEEDS) * len(ADAPTED_BY))


rule prepare_network:
    """Build the network of all trainings, first of all jobs; keep the ImageNet weights.

    No download waits for it: Snakemake sees no other reason to run what comes after a job that has to run, not
    even behind an ancient input, so a changed config would train nothing again.
    """
    input:
        weights=[path for path in START if path != NETWORK],
    output:
        weights=NETWORK,
    log:
        f"{RESULTS}/logs/prepare_network.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_network.tsv"
    priority: 100
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        # What else it looks at (views, crops, depths) changes no weights, and is read by the script.
        model=config["model"],
        channels=len(config["channels"]),
        image_size=config["views"]["global_size"],
        code=code("prepare_network"),
    script:
        "../scripts/prepare_network.py"


def training_settings(section, *names):
    """Collect the parts of the config that a training depends on, and no others.

    How it is watched and compiled changes no result, so its script reads `watch` and `compute` from the config.
    """
    settings = {"training": config[section]} | {name: config[name] for name in names}
    if START == [NETWORK]:
        settings["model"] = config["model"] | {"fetched": NETWORK}
    return settings


rule pretrain_foundation:
    """Train a foundation by DINO with cross-batch partners."""
    input:
        crops=training_crops,
        validation=held_out_crops,
        weights=START,
        plates=rules.check_plates.output.plates,
        compounds=rules.label_compounds.output.compounds,
    output:
        foundation=f"{MODEL}/foundation.safetensors",
        networks=f"{MODEL}/networks.safetensors",
        card=f"{MODEL}/model_card.md",
        log=f"{MODEL}/pretraining.parquet",
    log:
        f"{RESULTS}/logs/pretrain_foundation/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain_foundation/{{source}}/seed_{{seed}}.tsv"
    # What takes longest waits for it, so it goes first. Of all cores it would wait until none is at work.
    priority: 30
    conda:
        "../envs/torch.yaml"
    threads: share(TRAININGS, spare=1)
    resources:
        gpu=config["compute"]["gpus"] * config["compute"]["nodes"],
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=training_settings("pretrain", "model", "head", "views", "data", "knn"),
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
        code=code("pretrain_foundation"),
    script:
        "../scripts/pretrain_foundation.py"


rule train_classifier:
    """Train the task model on the tokens of the frozen foundation."""
    input:
        crops=training_crops,
        validation=held_out_crops,
        weights=START,
        compounds=rules.label_compounds.output.compounds,
        foundation=rules.pretrain_foundation.output.foundation,
    output:
        weights=f"{MODEL}/task_model.safetensors",
        log=f"{MODEL}/task_model.parquet",
    log:
        f"{RESULTS}/logs/train_classifier/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_classifier/{{source}}/seed_{{seed}}.tsv"
    # Shorter than the adaptations that wait for the same foundation, and some wait for it too.
    priority: 2
    conda:
        "../envs/torch.yaml"
    threads: share(ADAPTATIONS_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(480),
    params:
        settings=training_settings("classify", "model") | {"views": GLOBAL_VIEWS},
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
        shuffled=False,
        code=code("train_classifier"),
    script:
        "../scripts/train_classifier.py"


use rule train_classifier as train_shuffled with:
    # The control: the same task model on labels permuted between compounds.
    output:
        weights=f"{MODEL}/shuffled.safetensors",
        log=f"{MODEL}/shuffled.parquet",
    log:
        f"{RESULTS}/logs/train_shuffled/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_shuffled/{{source}}/seed_{{seed}}.tsv"
    params:
        settings=training_settings("classify", "model") | {"views": GLOBAL_VIEWS},
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
        shuffled=True,


rule measure_tokens:
    """Measure the tokens of the training source, which those of a target are aligned to."""
    input:
        crops=training_crops,
        foundation=rules.pretrain_foundation.output.foundation,
    output:
        statistics=f"{MODEL}/tokens.safetensors",
        embeddings=f"{MODEL}/embeddings.parquet",
    log:
        f"{RESULTS}/logs/measure_tokens/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_tokens/{{source}}/seed_{{seed}}.tsv"
    priority: 2
    conda:
        "../envs/torch.yaml"
    threads: share(ADAPTATIONS_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        settings=network_settings(config),
        precision=config["compute"]["precision"],
        code=code("measure_tokens"),
    script:
        "../scripts/measure_tokens.py"


rule train_supervised:
    """Train the baseline end to end, without a foundation."""
    input:
        crops=training_crops,
        validation=held_out_crops,
        weights=START,
        plates=rules.check_plates.output.plates,
        compounds=rules.label_compounds.output.compounds,
    output:
        weights=f"{MODEL}/supervised.safetensors",
        log=f"{MODEL}/supervised.parquet",
    log:
        f"{RESULTS}/logs/train_supervised/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_supervised/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: share(ADAPTATIONS_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(480),
    params:
        settings=training_settings("supervise", "model")
        | supervised_network(config)
        | {"views": GLOBAL_VIEWS},
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
        code=code("train_supervised"),
    script:
        "../scripts/train_supervised.py"


def adaptation_crops(wildcards):
    """Plates of the target that a foundation adapts to: all but the held-out one."""
    return crops_of(wildcards.target, "train")


def home_crops(wildcards):
    """Plates of the training source, for the adaptations that see them again."""
    again = COMPOSED[wildcards.method].adaptation in ("coda_labs", "coda_replay")
    return training_crops(wildcards) if again else []


def adaptation_guides(wildcards):
    """What the terms of an adaptation's loss know of the training source."""
    terms, files = config["adapt"], {}
    consensus = COMPOSED[wildcards.method].adaptation == "coda_consensus"
    if consensus:
        files["task_model"] = rules.train_classifier.output.weights
    if terms["hold_moments"] or (consensus and config["consensus"]["aligned"]):
        files["statistics"] = rules.measure_tokens.output.statistics
    return files


def adaptation_settings(wildcards):
    """Settings of a method's adaptation.

    The consensus leads the student alone, so its teacher needs a momentum that keeps up in a short schedule; in one as
    long as the paper's, auto is the paper's.
    """
    settings = training_settings("adapt", "model", "head", "views", "data")
    if COMPOSED[wildcards.method].adaptation != "coda_consensus":
        return settings
    training = settings["training"] | {"teacher_momentum": "auto"}
    return settings | {"training": training, "consensus": config["consensus"]}


rule adapt_foundation:
    """Go on with DINO on the target: with cross-batch partners (coda), without (oda), or with other ones."""
    input:
        unpack(adaptation_guides),
        crops=adaptation_crops,
        home=home_crops,
        networks=rules.pretrain_foundation.output.networks,
        filters=filters_of,
    output:
        foundation=f"{ADAPTED}/foundation.safetensors",
        card=f"{ADAPTED}/model_card.md",
        log=f"{ADAPTED}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_foundation/{{source}}/seed_{{seed}}/{{target}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_foundation/{{source}}/seed_{{seed}}/{{target}}_{{method}}.tsv"
    wildcard_constraints:
        method="|".join(
            in_order(
                made.foundation for made in COMPOSED.values() if made.adaptation in ADAPTATIONS
            )
        ),
    priority: 1
    conda:
        "../envs/torch.yaml"
    threads: share(ADAPTATIONS_AT_ONCE)
    resources:
        gpu=config["compute"]["gpus"] * config["compute"]["nodes"],
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=adaptation_settings,
        precision=config["compute"]["precision"],
        code=code("adapt_foundation"),
    script:
        "../scripts/adapt_foundation.py"


rule adapt_supervised:
    """Adapt the supervised baseline by TENT: normalisation layers only, by the entropy of its predictions."""
    input:
        crops=adaptation_crops,
        weights=rules.train_supervised.output.weights,
        filters=filters_of,
    output:
        weights=f"{ADAPTED}/supervised.safetensors",
        log=f"{ADAPTED}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_supervised/{{source}}/seed_{{seed}}/{{target}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_supervised/{{source}}/seed_{{seed}}/{{target}}_{{method}}.tsv"
    wildcard_constraints:
        method="supervised_tent|harmonised_supervised_tent",
    conda:
        "../envs/torch.yaml"
    threads: share(ADAPTATIONS_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        settings=network_settings(config, "supervise")
        | {"training": config["tent"], "wells": config["data"]["wells"]},
        precision=config["compute"]["precision"],
        code=code("adapt_supervised"),
    script:
        "../scripts/adapt_supervised.py"


rule adapt_to_consensus:
    """Adapt the supervised network to what it finds in all wells of a compound, its batch norms those of each plate."""
    input:
        crops=adaptation_crops,
        weights=rules.train_supervised.output.weights,
        filters=filters_of,
    output:
        weights=f"{ADAPTED}/supervised.safetensors",
        log=f"{ADAPTED}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_to_consensus/{{source}}/seed_{{seed}}/{{target}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_to_consensus/{{source}}/seed_{{seed}}/{{target}}_{{method}}.tsv"
    wildcard_constraints:
        method="supervised_consensus|harmonised_supervised_consensus",
    conda:
        "../envs/torch.yaml"
    threads: share(ADAPTATIONS_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(240),
    params:
        settings=network_settings(config, "supervise")
        | {
            "views": config["views"],
            "training": config["adapt"],
            "wells": config["data"]["wells"],
            "balanced": config["consensus"]["balanced"],
        },
        precision=config["compute"]["precision"],
        code=code("adapt_to_consensus"),
    script:
        "../scripts/adapt_to_consensus.py"
