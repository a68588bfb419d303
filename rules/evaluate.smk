"""Step 4: predictions of every site, and scores with intervals.

In: crops, foundations and classifiers.
Out: <results>/scores/<source>/*.parquet (parts of the tables, with replicates),
<results>/intensities/<source>/<plate>.parquet (what the intensity control sees),
<results>/predictions/<source>/seed_<seed>/<method>/<target>.parquet, <results>/metrics.csv (every run), summary.csv (means), summary.txt;
<results>/profiles/<source>/seed_<seed>/<method>/<target>/<plate>.parquet and <results>/representation.csv (what the features hold),
merged from <results>/representation/<source>/seed_<seed>.parquet.
"""


rule predict_sites:
    """Predict the mechanism of action of every site of a source."""
    input:
        crops=tested_crops,
        foundation=foundation_of,
        classifier=classifier_of,
        statistics=statistics_of,
        code=code("predict_sites"),
    output:
        predictions=PREDICTIONS,
    log:
        f"{RESULTS}/logs/predict_sites/{{source}}/seed_{{seed}}/{{method}}_{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_sites/{{source}}/seed_{{seed}}/{{method}}_{{target}}.tsv"
    wildcard_constraints:
        method=methods_of("network"),
    conda:
        "../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        settings=lambda wildcards: network_settings(
            "supervise" if COMPOSED[wildcards.method].head == "supervised" else "classify"
        ),
        precision=config["compute"]["precision"],
    script:
        "../scripts/predict_sites.py"


rule predict_probe:
    """Predict from embeddings by a simple classifier, in place of the task model."""
    input:
        training=rules.measure_tokens.output.embeddings,
        predictions=embeddings_of,
        code=code("predict_probe"),
    output:
        predictions=PREDICTIONS,
    log:
        f"{RESULTS}/logs/predict_probe/{{source}}/seed_{{seed}}/{{method}}_{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_probe/{{source}}/seed_{{seed}}/{{method}}_{{target}}.tsv"
    wildcard_constraints:
        method=methods_of("probe"),
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        knn={key: config["knn"][key] for key in ("k", "temperature")},
    script:
        "../scripts/predict_probe.py"


rule measure_intensities:
    """Measure the channels' intensities at every site of a plate, for all controls that learn from it or predict it."""
    input:
        crops=f"{RESULTS}/crops/{{source}}/{{plate}}.arrow",
        code=code("measure_intensities"),
    output:
        intensities=INTENSITIES,
    log:
        f"{RESULTS}/logs/measure_intensities/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_intensities/{{source}}/{{plate}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    script:
        "../scripts/measure_intensities.py"


rule predict_control:
    """The controls: predict from the channels' intensities alone, or from the position on the plate alone."""
    input:
        training=control_training,
        target=control_target,
        plates=f"{RESULTS}/metadata/plates.csv",
        code=code("predict_control"),
    output:
        predictions=PREDICTIONS,
    log:
        f"{RESULTS}/logs/predict_control/{{source}}/seed_{{seed}}/{{method}}_{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_control/{{source}}/seed_{{seed}}/{{method}}_{{target}}.tsv"
    wildcard_constraints:
        method=methods_of("control"),
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    script:
        "../scripts/predict_control.py"


rule score_source:
    """Score what was trained on a source, with bootstrap intervals over wells."""
    input:
        plates=f"{RESULTS}/metadata/plates.csv",
        predictions=source_predictions,
        code=code("score_source"),
    output:
        runs=f"{RESULTS}/scores/{{source}}/runs.parquet",
        means=f"{RESULTS}/scores/{{source}}/means.parquet",
        plates=f"{RESULTS}/scores/{{source}}/plates.parquet",
    log:
        f"{RESULTS}/logs/score_source/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_source/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
    script:
        "../scripts/score_source.py"


rule score_predictions:
    """Compare the scores of all training sources, and average them over pairs."""
    input:
        **{
            kind: expand(
                f"{RESULTS}/scores/{{source}}/{kind}.parquet",
                source=sorted({source for source, _ in PAIRS}),
            )
            for kind in ("runs", "means", "plates")
        },
        code=code("score_predictions"),
    output:
        metrics=f"{RESULTS}/metrics.csv",
        summary=f"{RESULTS}/summary.csv",
        text=f"{RESULTS}/summary.txt",
    log:
        f"{RESULTS}/logs/score_predictions.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_predictions.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    script:
        "../scripts/score_predictions.py"


rule export_profiles:
    """Well profiles of all methods of a training run, in the form that pycytominer and copairs read."""
    input:
        predictions=run_predictions,
        code=code("export_profiles"),
    output:
        profiles=directory(f"{RESULTS}/profiles/{{source}}/seed_{{seed}}"),
    log:
        f"{RESULTS}/logs/export_profiles/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_profiles/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    script:
        "../scripts/export_profiles.py"


rule score_embeddings:
    """Score the features of a training run themselves: retrieval of replicates and mechanisms, mixing of batches."""
    input:
        plates=f"{RESULTS}/metadata/plates.csv",
        profiles=rules.export_profiles.output.profiles,
        code=code("score_embeddings"),
    output:
        representation=f"{RESULTS}/representation/{{source}}/seed_{{seed}}.parquet",
    log:
        f"{RESULTS}/logs/score_embeddings/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_embeddings/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
    script:
        "../scripts/score_embeddings.py"


rule merge_representation:
    """Lay the scores of the features of all training runs below each other."""
    input:
        tables=expand(
            rules.score_embeddings.output.representation,
            source=sorted({source for source, _ in PAIRS}),
            seed=SEEDS,
        ),
        code=code("merge_representation"),
    output:
        representation=f"{RESULTS}/representation.csv",
    log:
        f"{RESULTS}/logs/merge_representation.log",
    benchmark:
        f"{RESULTS}/benchmarks/merge_representation.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    script:
        "../scripts/merge_representation.py"
