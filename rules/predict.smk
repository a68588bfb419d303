"""A trained pipeline on other plates: packs, and what a pack says of plates of one's own.

Needs: for a pack the networks of a training source; to predict, a pack and the crops of a target.
Gives: <results>/coverage.csv, how often prediction sets hold the right mechanism in the study; <results>/packs/<source>/seed_<n>/ with everything that predicts, and a zip of it; with a pack,
<results>/models/pack/seed_1/ (its networks) and <results>/calls.csv, .parquet, calls.html and trust.csv.
"""

PACKS = f"{RESULTS}/packs/{{source}}/seed_{{seed}}"


rule write_pack:
    """Gather what it takes to use a trained pipeline elsewhere."""
    input:
        foundation=rules.pretrain_foundation.output.foundation,
        networks=rules.pretrain_foundation.output.networks,
        task_model=rules.train_classifier.output.weights,
        tokens=rules.measure_tokens.output.statistics,
        embeddings=rules.measure_tokens.output.embeddings,
        spectra=rules.measure_spectra.output.spectra,
        calibration=HOME_PREDICTIONS.replace("{method}", "unadapted"),
        crops=training_crops,
        plates=f"{RESULTS}/metadata/plates.csv",
    output:
        description=f"{PACKS}/pack.json",
        zip=f"{PACKS}.zip",
    log:
        f"{RESULTS}/logs/write_pack/{{source}}/seed_{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_pack/{{source}}/seed_{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings_of(config),
        um_per_pixel=lambda wildcards: pixel_sizes(config)[wildcards.source],
        code=code("write_pack"),
    script:
        "../scripts/write_pack.py"


rule score_coverage:
    """Score how often prediction sets hold the right mechanism, at home and at each target, where labels tell."""
    input:
        predictions=lambda wildcards: predictions_of(runs_without_target_labels({"task_model"})),
        plates=f"{RESULTS}/metadata/plates.csv",
    output:
        coverage=f"{RESULTS}/coverage.csv",
    log:
        f"{RESULTS}/logs/score_coverage.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_coverage.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        runs=lambda wildcards: runs_without_target_labels({"task_model"}),
        coverage=config["predict"]["coverage"],
        code=code("score_coverage"),
    script:
        "../scripts/score_coverage.py"


if config["pack"]:

    ruleorder: open_pack > pretrain_foundation
    ruleorder: open_pack > train_classifier
    ruleorder: open_pack > measure_tokens
    ruleorder: open_pack > measure_spectra

    TRAINED = MODEL.format(source="pack", seed=1)

    rule open_pack:
        """Lay the networks of the pack where those of a training would lie, once its checksums are right."""
        input:
            pack=f"{PACK}/pack.json",
        output:
            foundation=f"{TRAINED}/foundation.safetensors",
            networks=f"{TRAINED}/networks.safetensors",
            task_model=f"{TRAINED}/task_model.safetensors",
            tokens=f"{TRAINED}/tokens.safetensors",
            spectra=f"{RESULTS}/spectra/pack.parquet",
            calibration=f"{TRAINED}/calibration.parquet",
            compounds=f"{TRAINED}/compounds.parquet",
            thumbnails=f"{TRAINED}/thumbnails.parquet",
        log:
            f"{RESULTS}/logs/open_pack.log",
        benchmark:
            f"{RESULTS}/benchmarks/open_pack.tsv"
        conda:
            "../envs/images.yaml"
        resources:
            mem_mb=growing(1000),
            runtime=growing(30),
        params:
            code=code("open_pack"),
        script:
            "../scripts/open_pack.py"

    rule call_mechanisms:
        """Call the mechanisms of the plates, and say how far to believe that."""
        input:
            **{
                method: [
                    PREDICTIONS.format(source="pack", seed=1, method=method, target=target)
                    for target in config["target_sources"]
                ]
                for method in config["methods"]
            },
            calibration=rules.open_pack.output.calibration,
            compounds=rules.open_pack.output.compounds,
            quality=all_quality,
            warnings=rules.collect_warnings.output.warnings,
        output:
            table=f"{RESULTS}/calls.parquet",
            text=f"{RESULTS}/calls.csv",
            trust=f"{RESULTS}/trust.csv",
        log:
            f"{RESULTS}/logs/call_mechanisms.log",
        benchmark:
            f"{RESULTS}/benchmarks/call_mechanisms.tsv"
        conda:
            "../envs/images.yaml"
        resources:
            mem_mb=growing(8000),
            runtime=growing(60),
        params:
            methods=config["methods"],
            coverage=config["predict"]["coverage"],
            code=code("call_mechanisms"),
        script:
            "../scripts/call_mechanisms.py"

    rule write_bench_report:
        """Write the page for the bench: calls to sort and filter, the cells behind them, and maps of the plates."""
        input:
            calls=rules.call_mechanisms.output.table,
            trust=rules.call_mechanisms.output.trust,
            crops=all_crops,
            thumbnails=rules.open_pack.output.thumbnails,
            warnings=rules.collect_warnings.output.warnings,
        output:
            page=f"{RESULTS}/calls.html",
        log:
            f"{RESULTS}/logs/write_bench_report.log",
        benchmark:
            f"{RESULTS}/benchmarks/write_bench_report.tsv"
        conda:
            "../envs/images.yaml"
        resources:
            mem_mb=growing(4000),
            runtime=growing(20),
        params:
            code=code("write_bench_report"),
        script:
            "../scripts/write_bench_report.py"


def calls(wildcards):
    """The calls, which only a pack makes."""
    if not config["pack"]:
        raise WorkflowError(
            "To predict, name a pack in the config: pack: PATH (`snakemake pack` makes one)."
        )
    return [rules.call_mechanisms.output.text, rules.write_bench_report.output.page]
