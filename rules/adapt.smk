"""Step 3: a foundation adapted to a target source, without its labels.

In: networks of step 1, crops of the target's plates but the one kept out.
Out: adapted/<target>/<method>/foundation.safetensors with its log; the task model stays as it is.
"""


rule adapt_foundation:
    """Go on with DINO on the target: with cross-batch partners (coda) or without (oda)."""
    input:
        crops=adaptation_crops,
        networks=rules.pretrain_foundation.output.networks,
        code=code("adapt_foundation"),
    output:
        foundation=f"{ADAPTED}/foundation.safetensors",
        log=f"{ADAPTED}/adaptation.parquet",
    log:
        f"{RESULTS}/logs/adapt_foundation/{{source}}/seed_{{seed}}/{{target}}_{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adapt_foundation/{{source}}/seed_{{seed}}/{{target}}_{{method}}.tsv"
    wildcard_constraints:
        method="oda|coda",
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=training_settings("adapt", "model", "head", "views", "data"),
        compute={key: config["compute"][key] for key in ("precision", "compile")},
    script:
        "../scripts/adapt_foundation.py"
