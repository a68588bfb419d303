import copy
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import rulegraph
import yaml
from coda.methods import ADAPTATIONS, COMPOSED, METHODS, names_of
from places import ROOT
from snakemake.utils import update_config
from workflow_run import rules_of, run_snakemake


def test_the_plan_counts_what_a_run_would_fetch_and_fetches_nothing(workdir, gallery):
    folder, config = workdir
    run_snakemake(folder, config, "plan")
    plan = pd.read_csv(folder / "results/plan.csv").set_index("Metadata_Source")
    images = [
        path
        for source, channels in (("source_5", "C0[12]"), ("source_3", "ch[54]"))
        for path in (gallery / f"cellpainting-gallery/cpg0016-jump/{source}/images").rglob(
            f"*{channels}*.tif*"
        )
    ]  # DNA and ER, by each source's own numbers
    assert plan.loc["all", "plates"] == 4
    assert plan.loc["all", "objects"] == len(images)
    assert plan.loc["all", "bytes"] == sum(path.stat().st_size for path in images)
    assert not (folder / "results/images").exists()
    assert "source_3" in (folder / "results/plan.txt").read_text()


def test_a_simulated_config_plans_from_any_folder(tmp_path):
    """The default config is found beside the Snakefile, so no folder config/ is needed where the run lies."""
    done = run_snakemake(tmp_path, ROOT / "config/tiny.yaml", "--dry-run")
    assert "simulate_gallery" in done.stdout and "train_classifier" in done.stdout


def test_the_papers_config_plans(tmp_path):
    done = run_snakemake(tmp_path, ROOT / "config/config.yaml", "--dry-run")
    assert "select_plates" in done.stdout and "pretrain_foundation" in done.stdout


def test_the_methods_that_answer_a_question_plan_every_training(planned):
    of_transformers = [name for name in METHODS if not COMPOSED[name].plate_norms]
    rules = planned(f"methods=[{', '.join(of_transformers)}]")
    assert {"adapt_foundation", "adapt_supervised", "train_shuffled", "predict_probes"} <= rules
    assert {"predict_sites", "score_predictions", "plot_accuracy", "write_report"} <= rules
    assert "pretrain_foundation" in rules  # the oracle's
    assert rules.isdisjoint({"download_plate", "extract_crops", "train_supervised"})


def test_a_convolutional_baseline_is_trained_alone(planned):
    rules = planned(
        "supervised_network=resnet18", "methods=[unadapted, harmonised_supervised_adabn]"
    )
    assert {"train_supervised", "predict_sites", "write_report"} <= rules
    assert rules.isdisjoint({"pretrain_foundation", "train_classifier", "adapt_supervised"})


def test_a_convolutional_baseline_is_adapted_to_its_consensus_alone(planned):
    rules = planned(
        "supervised_network=resnet18", "methods=[unadapted, harmonised_supervised_consensus]"
    )
    assert {"train_supervised", "adapt_to_consensus", "predict_sites", "write_report"} <= rules
    assert rules.isdisjoint({"pretrain_foundation", "train_classifier", "adapt_supervised"})
    beside = planned(
        "supervised_network=resnet18",
        "methods=[unadapted, harmonised_coda_consensus, supervised, harmonised_supervised_consensus]",
    )
    assert "adapt_to_consensus" in beside
    assert beside.isdisjoint({"measure_tokens", "adapt_foundation"})


def test_a_method_more_trains_only_what_it_needs(planned):
    more = "methods=[unadapted, coda, coda_aligned_means, coda_knn_sphered, unadapted_linear]"
    rules = planned(more)
    assert {"predict_sites", "predict_probes", "score_predictions"} <= rules
    assert rules.isdisjoint({"pretrain_foundation", "adapt_foundation", "train_classifier"})


@pytest.mark.parametrize(
    ("method", "compared"),
    [("unadapted_aligned_means", False), ("harmonised_unadapted_aligned_means", True)],
)
def test_attention_is_drawn_where_there_are_two_to_compare(tmp_path, method, compared):
    words = ["--dry-run", "--config", f"methods=[unadapted, {method}]"]
    rules = rules_of(run_snakemake(tmp_path, ROOT / "config/tiny.yaml", *words))
    assert {"plot_pair", "plot_slopes", "write_explorer"} <= rules
    assert ({"explain_calls", "plot_attention"} & rules != set()) == compared


def test_a_misspelt_method_is_refused_with_the_nearest_right_one(workdir):
    folder, config = workdir
    words = ["--config", "methods=[unadapted, coda_alignd]"]
    done = run_snakemake(folder, config, "--dry-run", *words, check=False)
    assert done.returncode != 0 and "did you mean coda_aligned" in done.stdout


def ready_config(folder: Path, name: str) -> dict:
    """Give a ready config with a table in `folder` of two plates of each of its sources."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(config, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))
    sources = sorted({*config["train_sources"], *config["target_sources"]})
    plates = pd.DataFrame(
        [
            (source, f"batch_{number}", plate, "TARGET2")
            for source in sources
            for number, plate in enumerate(
                [config["sources"][source]["validation_plate"], f"{source}_other"]
            )
        ],
        columns=[f"Metadata_{part}" for part in ("Source", "Batch", "Plate", "PlateType")],
    )
    plates.to_csv(folder / "plate.csv", index=False)
    config["tables"]["plate"] = str(folder / "plate.csv")
    config["exclude_plates"] = []
    return config


@pytest.fixture(scope="module")
def jobs_of(tmp_path_factory) -> Callable[..., tuple[dict, dict[str, int], str]]:
    """Count the jobs of each rule that a ready config plans, once two plates of each source are chosen.

    Gives the config, the counts and all that the plan says. Plates are chosen once for each ready
    config: what a test changes has no say in it, or their choice would be planned again.
    """
    chosen = {}

    def write(config: dict) -> Path:
        path = tmp_path_factory.mktemp("config") / "run.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def count(name: str, **changes) -> tuple[dict, dict[str, int], str]:
        if name not in chosen:
            folder = tmp_path_factory.mktemp(name)
            config = ready_config(folder, name)
            run_snakemake(folder, write(config), "results/metadata/plates.csv")
            chosen[name] = folder, config
        folder, config = chosen[name]
        config = copy.deepcopy(config)
        update_config(config, changes)
        said = run_snakemake(folder, write(config), "--dry-run").stdout
        table = said[said.index("Job stats:") :].split("\n\n")[0]
        jobs = [line.split() for line in table.splitlines() if len(line.split()) == 2]
        counts = {rule: int(count) for rule, count in jobs if count.isdigit()}
        assert "select_plates" not in counts
        return config, counts, said

    return count


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("pair", 4), ("target2", 22)])
def test_a_ready_config_plans_every_job_once_its_plates_are_chosen(jobs_of, name, count):
    config, jobs, _ = jobs_of(name)
    sources = {*config["train_sources"], *config["target_sources"]}
    assert jobs["download_plate"] == jobs["extract_crops"] == count == 2 * len(sources)
    assert jobs["measure_intensities"] == len(sources)  # however many learn from one
    assert jobs["pretrain_foundation"] == len(config["train_sources"])
    pairs = len(sources) * (len(sources) - 1) if name == "target2" else 1
    assert (
        jobs["adapt_foundation"] == 3 * pairs
    )  # with and without partners, and on harmonised images
    assert jobs["measure_spectra"] == len(sources)
    # Each pair, and each training source to itself.
    assert jobs["fit_harmonisation"] == pairs + len(config["train_sources"])


@pytest.mark.slow
def test_every_aligned_method_is_also_tried_with_half_of_the_mechanisms(jobs_of):
    aligned = [name for name in names_of("network") if COMPOSED[name].alignment]
    _, jobs, said = jobs_of(
        "pair", methods=list(COMPOSED), supervised_network="resnet18", experiments={"run": ["mix"]}
    )
    assert jobs["adapt_foundation"] == jobs["adapt_to_mix"] == 2 * len(ADAPTATIONS)
    (outputs,) = re.findall(r"^rule predict_mix:\n    input: .*\n    output: (.*)", said, re.M)
    predicted = [path.split("/mix/")[1].split("/")[0] for path in outputs.split(", ")]
    consensus = ["coda_consensus", "harmonised_coda_consensus"]
    assert sorted(predicted) == sorted(["coda", *consensus, *aligned])


@pytest.mark.slow
def test_filters_made_of_all_wells_take_no_part_where_mechanisms_are_left_away(jobs_of):
    methods = ["unadapted", "coda", "unadapted_aligned", "harmonised_coda_aligned"]
    given = {"methods": methods, "experiments": {"run": ["mix"]}}
    _, jobs, _ = jobs_of("pair", **given, harmonise={"reference": "all"})
    assert jobs["adapt_foundation"] == 2 and jobs["adapt_to_mix"] == 1


@pytest.mark.slow
def test_an_experiment_adapts_for_no_method_that_was_not_chosen(jobs_of):
    methods = ["unadapted", "oda", "coda", "unadapted_aligned", "coda_replay_aligned_dmso"]
    experiments = {"run": ["mix", "compounds"]}
    _, jobs, _ = jobs_of("pair", methods=methods, experiments=experiments)
    assert jobs["adapt_to_mix"] == 2  # CODA, and with replay


@pytest.mark.slow
@pytest.mark.parametrize(
    ("terms", "needed"),
    [
        ({"patch_term": 1.0, "frozen_blocks": 2}, set()),
        ({"hold_moments": 1.0}, {"tokens.safetensors"}),
    ],
    ids=lambda part: "-".join(sorted(part)) or "nothing",
)
def test_an_adaptation_waits_for_what_its_terms_need_and_no_more(jobs_of, terms, needed):
    _, _, said = jobs_of("pair", adapt=terms, methods=["unadapted", "coda"])
    (inputs,) = re.findall(r"^rule adapt_foundation:\n    input: (.*)", said, re.M)
    names = {Path(path).name for path in inputs.split(", ")}
    assert names & {"tokens.safetensors", "task_model.safetensors"} == needed


@pytest.mark.slow
def test_a_consensus_waits_for_the_task_model_that_makes_it(jobs_of):
    _, _, said = jobs_of("pair", methods=["unadapted", "coda_consensus"])
    (inputs,) = re.findall(r"^rule adapt_foundation:\n    input: (.*)", said, re.M)
    assert {"tokens.safetensors", "task_model.safetensors"} <= {
        Path(path).name for path in inputs.split(", ")
    }


@pytest.mark.slow
def test_predictions_take_one_job_a_target_and_kind(jobs_of):
    experiments = {"run": ["mix", "compounds"]}
    _, jobs, _ = jobs_of(
        "pair", methods=list(METHODS), supervised_network="resnet18", experiments=experiments
    )
    counted = {rule: count for rule, count in jobs.items() if rule.startswith("predict_")}
    assert counted == {
        "predict_sites": 1, "predict_home": 1, "predict_probes": 1, "predict_home_probes": 1, "predict_controls": 2,
        "predict_profiles": 2, "predict_mix": 1, "predict_new_compounds": 1, "predict_home_new_compounds": 1,
        "predict_new_compounds_by_controls": 2,
    }  # fmt: skip


@pytest.mark.slow
def test_the_picture_of_the_rules_is_in_step_with_them():
    assert rulegraph.PAGE.read_text() == rulegraph.page(rulegraph.plan())


def test_an_arrow_that_others_imply_is_left_out():
    assert rulegraph.reduced({("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d")}) == [
        ("a", "b"), ("b", "c"), ("c", "d")
    ]  # fmt: skip
