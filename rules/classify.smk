"""Step 2, and the baseline: classifiers of mechanisms of action on the training source.

In: crops of the source's training plates with labels, its validation plate, and the frozen foundation.
Out: task_model.safetensors and supervised.safetensors with their logs; tokens.safetensors (mean and deviation of
the tokens that the task model was trained on) and embeddings.parquet (CLS token of each training site).
"""


rule train_classifier:
    """Train the task model on the tokens of the frozen foundation."""
    input:
        crops=train_crops,
        validation=validation_crops,
        weights=START,
        compounds=rules.label_compounds.output.compounds,
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
        settings=training_settings("classify", "model") | {"views": GLOBAL_VIEWS},
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
        shuffled=False,
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
        crops=train_crops,
        foundation=rules.pretrain_foundation.output.foundation,
        code=code("measure_tokens"),
    output:
        statistics=f"{MODEL}/tokens.safetensors",
        embeddings=f"{MODEL}/embeddings.parquet",
    log:
        f"{RESULTS}/logs/measure_tokens/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_tokens/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        settings=network_settings(),
        precision=config["compute"]["precision"],
    script:
        "../scripts/measure_tokens.py"


rule train_supervised:
    """Train the baseline end to end, without a foundation."""
    input:
        crops=train_crops,
        validation=validation_crops,
        weights=START,
        compounds=rules.label_compounds.output.compounds,
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
        settings=training_settings("supervise", "model") | {"views": GLOBAL_VIEWS},
        precision=config["compute"]["precision"],
        choose=CLASS_CHOICE,
    script:
        "../scripts/train_supervised.py"
