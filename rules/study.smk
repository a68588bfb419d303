"""Figures of the comparison between sources and methods, drawn from scores and predictions: no GPU.

In: <results>/summary.csv, predictions, metadata/plates.csv.
Out: <results>/figures/*.pdf, .png and .csv (the table behind each).
"""


rule plot_matrix:
    """Heat map of accuracy from every training source to every target, in domain on the diagonal."""
    input:
        summary=rules.score_predictions.output.summary,
        code=code("plot_matrix"),
    output:
        **figure("matrix"),
        png=report(f"{FIGURES}/matrix.png", caption="../report/matrix.rst", category="Results"),
    log:
        f"{RESULTS}/logs/plot_matrix.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_matrix.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
    script:
        "../scripts/plot_matrix.py"


rule plot_slopes:
    """Accuracy before and after adaptation, a line a pair."""
    input:
        summary=rules.score_predictions.output.summary,
        code=code("plot_slopes"),
    output:
        **figure("slopes"),
        png=report(f"{FIGURES}/slopes.png", caption="../report/slopes.rst", category="Results"),
    log:
        f"{RESULTS}/logs/plot_slopes.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_slopes.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
    script:
        "../scripts/plot_slopes.py"


rule plot_gains:
    """Gain in recall of every mechanism of action, of one pair."""
    input:
        before=predictions_of("unadapted", "{target}"),
        after=predictions_of("coda", "{target}"),
        plates=f"{RESULTS}/metadata/plates.csv",
        code=code("plot_gains"),
    output:
        **figure(f"gains/{PER_PAIR}"),
        png=report(
            f"{FIGURES}/gains/{PER_PAIR}.png",
            caption="../report/gains.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_gains/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_gains/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
    script:
        "../scripts/plot_gains.py"


rule plot_calibration:
    """How often predictions are right at each confidence, before and after adaptation."""
    input:
        before=predictions_of("unadapted", "{target}"),
        after=predictions_of("coda", "{target}"),
        plates=f"{RESULTS}/metadata/plates.csv",
        code=code("plot_calibration"),
    output:
        **figure(f"calibration/{PER_PAIR}"),
        png=report(
            f"{FIGURES}/calibration/{PER_PAIR}.png",
            caption="../report/calibration.rst",
            category="Results",
        ),
    log:
        f"{RESULTS}/logs/plot_calibration/{PER_PAIR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_calibration/{PER_PAIR}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        level=config["figures"]["level"],
        replicates=config["evaluate"]["replicates"],
        seed=config["evaluate"]["seed"],
    script:
        "../scripts/plot_calibration.py"
