"""CODA: from plates in the Cell Painting Gallery to the figures of the study.

Named targets: all (the default), figures, metrics, crops, plan, archive.
"""

from snakemake.utils import min_version

min_version("9.20")


# Of this folder, wherever the run is started: a config given with --configfile is laid over it.
configfile: f"{workflow.basedir}/config/config.yaml"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/experiment_inputs.smk"
include: "rules/demo.smk"
include: "rules/metadata.smk"
include: "rules/gallery.smk"
include: "rules/crops.smk"
include: "rules/pretrain.smk"
include: "rules/classify.smk"
include: "rules/adapt.smk"
include: "rules/evaluate.smk"
include: "rules/study.smk"
include: "rules/experiments.smk"
include: "rules/figures.smk"
include: "rules/archive.smk"


rule all:
    default_target: True
    input:
        network=NETWORK,
        report=f"{RESULTS}/report.html",
        crate=f"{RESULTS}/ro-crate-metadata.json",


rule archive:
    input:
        archive=f"{RESULTS}/archive.zip",


rule figures:
    input:
        figures=all_figures,
        report=f"{RESULTS}/report.html",


rule metrics:
    input:
        network=NETWORK,
        metrics=f"{RESULTS}/metrics.csv",
        experiments=f"{RESULTS}/experiments.csv" if EXPERIMENTS else [],


rule crops:
    input:
        crops=all_crops,
        quality=all_quality,


rule plan:
    input:
        text=f"{RESULTS}/plan.txt",
