"""Predictions of every site, and their scores with intervals.

Needs: crops, foundations and classifiers.
Gives: <results>/predictions/<source>/seed_<n>/<method>/<target>.parquet, the source itself among the targets;
<results>/intensities/<source>.parquet (what the intensity control sees); <results>/features/<source>/<plate>.parquet
(what the methods measured* read); <results>/scores/<source>/*.parquet (parts of the
tables, with replicates); <results>/metrics.csv (every run), summary.csv (means), accuracy_by_plate.csv and summary.txt;
<results>/profiles/<source>/seed_<n>/<method>/<target>/<plate>.parquet,
their scores in <results>/representation/<source>/seed_<n>.parquet, and all of them in <results>/representation.csv;
<results>/explanations/<source>/seed_<n>/<target>.parquet.
"""

PREDICTIONS = f"{RESULTS}/predictions/{{source}}/seed_{{seed}}/{{method}}/{{target}}.parquet"
HOME_PREDICTIONS = PREDICTIONS.replace("{target}", "{source}")
# Targets and the source itself, predicted at once.
PREDICTED_AT_ONCE = (len(PAIRS) + len(config["train_sources"])) * len(SEEDS)


ruleorder: predict_home > predict_sites
ruleorder: predict_home_probes > predict_probes


def chosen(kind, at_home=False):
    """Methods of a kind that are compared; at home those that do not adapt to a target.

    All of the kind where none is chosen: a rule has an output even if nothing asks for it.
    """
    known = [name for name in names_of(kind) if COMPOSED[name].at_home or not at_home]
    return [name for name in config["methods"] if name in known] or known


def outputs_of(path, methods):
    """Name the file of each method."""
    return {method: path.replace("{method}", method) for method in methods}


def foundation_of(method):
    """The foundation behind a method: of step 1, adapted, or the target's own; the supervised baseline has none."""
    made = COMPOSED[method]
    if made.head == "supervised":
        return None
    if made.adaptation in ADAPTATIONS:
        return rules.adapt_foundation.output.foundation.replace("{method}", made.foundation)
    return trained_by(rules.pretrain_foundation.output.foundation, made.adaptation)


def classifier_of(method):
    """The classifier behind a method."""
    made = COMPOSED[method]
    adapted = {"tent": rules.adapt_supervised, "consensus": rules.adapt_to_consensus}
    if made.adaptation in adapted:
        return adapted[made.adaptation].output.weights.replace("{method}", method)
    trained = {"supervised": rules.train_supervised, "shuffled": rules.train_shuffled}
    weights = trained.get(made.head, rules.train_classifier).output.weights
    return trained_by(weights, made.adaptation)


def trained_by(path, adaptation):
    """The file at the source that trained it: for the oracle, the target itself."""
    return path.replace("{source}", "{target}") if adaptation == "oracle" else path


def weights_behind(methods, foundation=foundation_of, classifier=classifier_of):
    """Input function: the weights behind each method, by names that tell the two apart."""

    def needed(wildcards):
        place = {"target": wildcards.get("source"), **wildcards}
        files = {f"classifier_{method}": classifier(method) for method in methods}
        files |= {f"foundation_{method}": foundation(method) for method in methods}
        if any(COMPOSED[method].alignment for method in methods):
            files["statistics"] = rules.measure_tokens.output.statistics
        if any(COMPOSED[method].harmonised for method in methods):
            files["filters"] = rules.fit_harmonisation.output.filters
        return {name: path.format(**place) for name, path in files.items() if path}

    return needed


def told_apart(methods):
    """Say of each method with networks what its predictions depend on besides weights."""
    return {
        method: {
            "harmonised": COMPOSED[method].harmonised,
            "alignment": COMPOSED[method].alignment,
            "depth": config["supervise" if COMPOSED[method].head == "supervised" else "classify"][
                "depth"
            ],
            # It was trained on the other plates.
            "held_out_only": COMPOSED[method].adaptation == "oracle",
            "plate_norms": COMPOSED[method].plate_norms,
        }
        for method in methods
    }


def target_crops(wildcards):
    """All plates of a target."""
    return crops_of(wildcards.target)


def held_out_of_target(wildcards):
    """The held-out plate of a target, all that the oracle may be shown."""
    return crops_of(wildcards.target, "validation") if "oracle" in config["methods"] else []


rule predict_sites:
    """Predict the mechanism of action of every site of a target, by all methods with networks."""
    input:
        unpack(weights_behind(chosen("network"))),
        crops=target_crops,
        held_out=held_out_of_target,
    output:
        **outputs_of(PREDICTIONS, chosen("network")),
    log:
        f"{RESULTS}/logs/predict_sites/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_sites/{{source}}/seed_{{seed}}/{{target}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: share(PREDICTED_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(240),
    params:
        methods=told_apart(chosen("network")),
        settings=network_settings(config, supervised=True),
        precision=config["compute"]["precision"],
        code=code("predict_sites"),
    script:
        "../scripts/predict_sites.py"


use rule predict_sites as predict_home with:
    # At home: the held-out plate of the training source, by what does not adapt to a target.
    input:
        unpack(weights_behind(chosen("network", at_home=True))),
        crops=held_out_crops,
    output:
        **outputs_of(HOME_PREDICTIONS, chosen("network", at_home=True)),
    log:
        f"{RESULTS}/logs/predict_home/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_home/{{source}}/seed_{{seed}}.tsv"
    params:
        methods=told_apart(chosen("network", at_home=True)),


def embeddings_behind(probes):
    """Input function: the predictions that hold the embeddings which probes read."""

    def needed(wildcards):
        place = {"target": wildcards.get("source"), **wildcards}
        networks = {COMPOSED[probe].network for probe in probes}
        return {
            f"embeddings_{network}": PREDICTIONS.format(method=network, **place)
            for network in networks
        }

    return needed


def probes_of(methods):
    """Say of each probe whose embeddings it reads, by what, and whether they are sphered."""
    return {
        method: {
            "network": COMPOSED[method].network,
            "probe": COMPOSED[method].head.removesuffix("_sphered"),
            "sphered": COMPOSED[method].sphered,
        }
        for method in methods
    }


rule predict_probes:
    """Predict a target from embeddings by simple classifiers, in place of the task model."""
    input:
        unpack(embeddings_behind(chosen("probe"))),
        training=rules.measure_tokens.output.embeddings,
    output:
        **outputs_of(PREDICTIONS, chosen("probe")),
    log:
        f"{RESULTS}/logs/predict_probes/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_probes/{{source}}/seed_{{seed}}/{{target}}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        probes=probes_of(chosen("probe")),
        knn={key: config["knn"][key] for key in ("k", "temperature")},
        code=code("predict_probes"),
    script:
        "../scripts/predict_probes.py"


use rule predict_probes as predict_home_probes with:
    input:
        unpack(embeddings_behind(chosen("probe", at_home=True))),
        training=rules.measure_tokens.output.embeddings,
    output:
        **outputs_of(HOME_PREDICTIONS, chosen("probe", at_home=True)),
    log:
        f"{RESULTS}/logs/predict_home_probes/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_home_probes/{{source}}/seed_{{seed}}.tsv"
    params:
        probes=probes_of(chosen("probe", at_home=True)),


def crops_explained_at_home(wildcards):
    """The held-out plate of the training source, which it did not learn, or all where there is none."""
    return held_out_crops(wildcards) or training_crops(wildcards)


rule explain_calls:
    """Where the networks look on some crops of each mechanism, and what blanking a channel does to their calls."""
    input:
        home=crops_explained_at_home,
        target=target_crops,
        before=rules.pretrain_foundation.output.foundation,
        after=foundation_of(AFTER),
        filters=rules.fit_harmonisation.output.filters if COMPOSED[AFTER].harmonised else [],
        classifier=rules.train_classifier.output.weights,
    output:
        explanations=f"{RESULTS}/explanations/{{source}}/seed_{{seed}}/{{target}}.parquet",
    log:
        f"{RESULTS}/logs/explain_calls/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/explain_calls/{{source}}/seed_{{seed}}/{{target}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: share(PREDICTED_AT_ONCE)
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        settings=network_settings(config, "classify"),
        after=COMPOSED[AFTER].foundation,
        precision=config["compute"]["precision"],
        code=code("explain_calls"),
    script:
        "../scripts/explain_calls.py"


rule measure_intensities:
    """Measure the channels' intensities at every site of a source, for all controls that learn from it or predict it."""
    input:
        crops=lambda wildcards: crops_of(wildcards.source),
    output:
        intensities=f"{RESULTS}/intensities/{{source}}.parquet",
    log:
        f"{RESULTS}/logs/measure_intensities/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_intensities/{{source}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code("measure_intensities"),
    script:
        "../scripts/measure_intensities.py"


rule predict_controls:
    """The controls: predict a target, or the source itself, from intensities alone or from positions alone."""
    input:
        training=rules.measure_intensities.output.intensities,
        # Also at home all plates, as features are standardised over those that train.
        target=rules.measure_intensities.output.intensities.replace("{source}", "{target}"),
        plates=f"{RESULTS}/metadata/plates.csv",
    output:
        **outputs_of(PREDICTIONS, chosen("control")),
    log:
        f"{RESULTS}/logs/predict_controls/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_controls/{{source}}/seed_{{seed}}/{{target}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code("predict_controls"),
    script:
        "../scripts/predict_controls.py"


rule measure_cells:
    """Measure shapes, intensities and textures of the cells in a plate's crops, for methods without networks."""
    input:
        crops=f"{RESULTS}/crops/{{source}}/{{plate}}.arrow",
    output:
        features=f"{RESULTS}/features/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/measure_cells/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_cells/{{source}}/{{plate}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(480),
    params:
        code=code("measure_cells"),
    script:
        "../scripts/measure_cells.py"


def features_of(source):
    """Measured features of all plates of a source."""
    return [
        rules.measure_cells.output.features.format(source=source, plate=plate)
        for plate in plates_of(source)
    ]


rule predict_profiles:
    """Predict a target, or the source itself, from features measured of its cells."""
    input:
        training=lambda wildcards: features_of(wildcards.source),
        target=lambda wildcards: features_of(wildcards.target),
        plates=f"{RESULTS}/metadata/plates.csv",
    output:
        **outputs_of(PREDICTIONS, chosen("profiles")),
    log:
        f"{RESULTS}/logs/predict_profiles/{{source}}/seed_{{seed}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_profiles/{{source}}/seed_{{seed}}/{{target}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        corrections={name: COMPOSED[name].correction for name in chosen("profiles")},
        code=code("predict_profiles"),
    script:
        "../scripts/predict_profiles.py"


def runs_of(source, *seeds):
    """Everything predicted after training on a source: seed, method and target of each, the source itself among them."""
    targets = [target for train, target in PAIRS if train == source]
    return [
        {"train_source": source, "target_source": target, "seed": seed, "method": method}
        for target in sorted([source, *targets])
        for seed in seeds or SEEDS
        for method in config["methods"]
        if source != target or COMPOSED[method].at_home
    ]


def predictions_of(runs):
    """Files of predictions, in the order of the runs."""
    return [
        PREDICTIONS.format(
            source=run["train_source"],
            target=run["target_source"],
            seed=run["seed"],
            method=run["method"],
        )
        for run in runs
    ]


rule score_source:
    """Score what was trained on a source, with bootstrap intervals over wells."""
    input:
        plates=f"{RESULTS}/metadata/plates.csv",
        predictions=lambda wildcards: predictions_of(runs_of(wildcards.source)),
    output:
        runs=f"{RESULTS}/scores/{{source}}/runs.parquet",
        means=f"{RESULTS}/scores/{{source}}/means.parquet",
        plates=f"{RESULTS}/scores/{{source}}/plates.parquet",
        by_plate=f"{RESULTS}/scores/{{source}}/by_plate.parquet",
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
        runs=lambda wildcards: runs_of(wildcards.source),
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
        code=code("score_source"),
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
            for kind in ("runs", "means", "plates", "by_plate")
        },
        warnings=rules.collect_warnings.output.warnings,
    output:
        metrics=f"{RESULTS}/metrics.csv",
        summary=f"{RESULTS}/summary.csv",
        by_plate=f"{RESULTS}/accuracy_by_plate.csv",
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
    params:
        code=code("score_predictions"),
    script:
        "../scripts/score_predictions.py"


def runs_without_target_labels(heads):
    """Runs of all methods with some heads that have not seen the target's labels, and of those heads at home."""
    return [
        run
        for source in sorted({source for source, _ in PAIRS})
        for run in runs_of(source)
        if COMPOSED[run["method"]].head in heads
        and COMPOSED[run["method"]].adaptation != "oracle"
        and (run["method"] in ("unadapted", "supervised") or run["target_source"] != source)
    ]


def recommended_runs():
    """What a recommendation compares: the supervised network's controls can be judged where it is there at home."""
    supervised = {"supervised"} & set(config["methods"])
    return runs_without_target_labels({"task_model", *supervised})


rule recommend_methods:
    """Recommend a method for each target by what may be known without labels: agreement of replicates, and controls."""
    input:
        predictions=lambda wildcards: predictions_of(recommended_runs()),
    output:
        recommendation=f"{RESULTS}/recommendation.csv",
    log:
        f"{RESULTS}/logs/recommend_methods.log",
    benchmark:
        f"{RESULTS}/benchmarks/recommend_methods.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        runs=lambda wildcards: recommended_runs(),
        code=code("recommend_methods"),
    script:
        "../scripts/recommend_methods.py"


rule export_profiles:
    """Well profiles of all methods of a training run, in the form that pycytominer and copairs read."""
    input:
        predictions=lambda wildcards: predictions_of(runs_of(wildcards.source, wildcards.seed)),
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
    params:
        runs=lambda wildcards: runs_of(wildcards.source, wildcards.seed),
        code=code("export_profiles"),
    script:
        "../scripts/export_profiles.py"


rule score_embeddings:
    """Score the features of a training run themselves: retrieval of replicates and mechanisms, mixing of batches."""
    input:
        plates=f"{RESULTS}/metadata/plates.csv",
        profiles=rules.export_profiles.output.profiles,
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
        code=code("score_embeddings"),
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
    params:
        code=code("merge_representation"),
    script:
        "../scripts/merge_representation.py"
