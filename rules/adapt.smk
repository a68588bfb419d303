"""Step 3: a foundation adapted to a target source, without its labels; and the baseline, by TENT.

In: networks of step 1 or the supervised baseline, crops of the target's plates but the one kept out.
Out: adapted/<target>/<method>/foundation.safetensors with its log and model card, for TENT supervised.safetensors; the
task model stays as it is.
"""


rule adapt_foundation:
    """Go on with DINO on the target: with cross-batch partners (coda), without (oda), or with other ones."""
    input:
        crops=adaptation_crops,
        home=home_crops,
        networks=rules.pretrain_foundation.output.networks,
        code=code("adapt_foundation"),
    output:
        foundation=f"{ADAPTED}/foundation.safetensors",
        card=f"{ADAPTED}/model_card.md",
        log=f"{ADAPTED}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_foundation/{{source}}/seed_{{seed}}/{{target}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_foundation/{{source}}/seed_{{seed}}/{{target}}_{{method}}.tsv"
    wildcard_constraints:
        method="|".join(ADAPTATIONS),
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=training_settings("adapt", "model", "head", "views", "data"),
        precision=config["compute"]["precision"],
    script:
        "../scripts/adapt_foundation.py"


rule adapt_supervised:
    """Adapt the supervised baseline by TENT: normalisation layers only, by the entropy of its predictions."""
    input:
        crops=adaptation_crops,
        weights=rules.train_supervised.output.weights,
        code=code("adapt_supervised"),
    output:
        weights=f"{TENT}/supervised.safetensors",
        log=f"{TENT}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_supervised/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_supervised/{{source}}/seed_{{seed}}/{{target}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        settings=network_settings("supervise")
        | {"training": config["tent"], "wells": config["data"]["wells"]},
        precision=config["compute"]["precision"],
    script:
        "../scripts/adapt_supervised.py"
