"""Step 2, and the baseline: classifiers of mechanisms of action on the training source.

In: crops of the source's training plates with labels, its validation plate, and the frozen foundation.
Out: task_model.safetensors and supervised.safetensors with their logs.
"""


rule train_classifier:
    """Train the task model on the tokens of the frozen foundation."""
    input:
        crops=train_crops,
        validation=validation_crops,
        weights=START,
        foundation=rules.pretrain_foundation.output.foundation,
        code=code("train_classifier"),
    output:
        weights=f"{MODEL}/task_model.safetensors",
        log=f"{MODEL}/task_model.parquet",
    log:
        f"{RESULTS}/logs/train_classifier/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_classifier/{{source}}/seed_{{seed}}.tsv"
    # Shorter than the adaptations that wait for the same foundation: first, so that no core idles at the end.
    priority: 1
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(480),
    params:
        settings=training_settings("classify", "model", "views"),
        compute={key: config["compute"][key] for key in ("precision", "compile")},
    script:
        "../scripts/train_classifier.py"


rule train_supervised:
    """Train the baseline end to end, without a foundation."""
    input:
        crops=train_crops,
        validation=validation_crops,
        weights=START,
        code=code("train_supervised"),
    output:
        weights=f"{MODEL}/supervised.safetensors",
        log=f"{MODEL}/supervised.parquet",
    log:
        f"{RESULTS}/logs/train_supervised/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_supervised/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(480),
    params:
        settings=training_settings("supervise", "model", "views"),
        compute={key: config["compute"][key] for key in ("precision", "compile")},
    script:
        "../scripts/train_supervised.py"
