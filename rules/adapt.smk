"""Step 3: a foundation adapted to a target source, without its labels.

In: networks of step 1, crops of the target's plates but the one kept out.
Out: adapted/<target>/<method>/foundation.safetensors with its log and model card; the task model stays as it is.
"""


rule adapt_foundation:
    """Go on with DINO on the target: with cross-batch partners (coda) or without (oda)."""
    input:
        crops=adaptation_crops,
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
        runtime=lambda wildcards, attempt: 1440 * attempt,
    params:
        settings=training_settings("adapt", "model", "head", "views", "data"),
        precision=config["compute"]["precision"],
    script:
        "../scripts/adapt_foundation.py"
