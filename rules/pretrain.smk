"""Step 1: the foundation of a training source, after a look at whether its network can be built at all.

In: crops of the source's training plates, and of its validation plate, by which the best epoch is kept.
Out: foundation.safetensors (for timm), networks.safetensors (to adapt from), model_card.md, pretraining.parquet (the log).
"""


rule prepare_network:
    """Build the network of all trainings, first of all jobs; keep the ImageNet weights.

    No download waits for it: Snakemake sees no other reason to run what comes after a job that has to run, not
    even behind an ancient input, so a changed config would train nothing again.
    """
    input:
        weights=[path for path in START if path != NETWORK],
        code=code("prepare_network"),
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
    script:
        "../scripts/prepare_network.py"


rule pretrain_foundation:
    """Train a foundation by DINO with cross-batch partners."""
    input:
        crops=train_crops,
        validation=validation_crops,
        weights=START,
        compounds=rules.label_compounds.output.compounds,
        code=code("pretrain_foundation"),
    output:
        foundation=f"{MODEL}/foundation.safetensors",
        networks=f"{MODEL}/networks.safetensors",
        card=f"{MODEL}/model_card.md",
        log=f"{MODEL}/pretraining.parquet",
    log:
        f"{RESULTS}/logs/pretrain_foundation/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain_foundation/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=training_settings("pretrain", "model", "head", "views", "data", "knn"),
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
    script:
        "../scripts/pretrain_foundation.py"
