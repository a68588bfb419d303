"""CODA: from plates in the Cell Painting Gallery to the figures of the study.

Named targets: all (the default), figures, metrics, crops, plan, archive, pack, predict. A config
file is laid over config/config.yaml.
"""

from snakemake.utils import min_version

min_version("9.20")


configfile: f"{workflow.current_basedir}/config/config.yaml"


include: "rules/common.smk"
include: "rules/simulation.smk"
include: "rules/gallery.smk"
include: "rules/crops.smk"
include: "rules/training.smk"
include: "rules/evaluation.smk"
include: "rules/experiments.smk"
include: "rules/predict.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


onstart:
    # Snakemake's own lock keeps out runs from the same working folder only.
    try:
        keep(Path(RESULTS) / ".run.lock", f"writes to {RESULTS}")
    except (UserError, OSError) as error:
        raise WorkflowError(str(error)) from None


onerror:
    # What each said is far above by now, and --quiet leaves out where its log is.
    print(PROGRESS.failures(), file=sys.stderr)


def network_to_train(wildcards):
    """The network that a study trains; a pack brings its own."""
    if config["pack"]:
        raise WorkflowError(
            "The config names a pack, which has been trained: ask for the target predict (or crops, or plan), or take "
            "pack out of the config to run a study."
        )
    return NETWORK


rule all:
    default_target: True
    input:
        network=network_to_train,
        report=rules.write_report.output.report,
        crate=rules.write_crate.output.crate,
        explorer=rules.write_explorer.output.explorer if EXPLORED else [],


rule archive:
    input:
        archive=rules.pack_archive.output.archive,


rule figures:
    input:
        figures=all_figures,
        report=rules.write_report.output.report,


rule metrics:
    input:
        network=network_to_train,
        metrics=rules.score_predictions.output.metrics,
        experiments=rules.score_experiments.output.scores if EXPERIMENTS else [],


rule crops:
    input:
        crops=all_crops,
        quality=all_quality,
        warnings=rules.collect_warnings.output.warnings,


rule pack:
    input:
        packs=[
            path.format(source=source, seed=seed)
            for path in (rules.write_pack.output.description, rules.write_pack.output.zip)
            for source in config["train_sources"]
            for seed in SEEDS
        ],


rule predict:
    input:
        calls=calls,


rule plan:
    input:
        text=rules.plan_download.output.text,
