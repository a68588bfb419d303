"""Step 1: the foundation of a training source.

In: crops of the source's training plates, and of its validation plate, by which the best epoch is kept.
Out: foundation.safetensors (for timm), networks.safetensors (to adapt from), model_card.md, pretraining.parquet (the log).
"""


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
