import os
import re
import shutil
import signal
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from coda.training.checkpoints import read_header
from places import ROOT
from workflow_run import run_snakemake, snakemake_command


def test_a_run_gives_metrics_figures_and_report(finished):
    folder, _ = finished
    metrics = pd.read_csv(folder / "results/metrics.csv", keep_default_na=False)
    assert {"in_domain", "unadapted", "oda", "coda", "supervised", "intensity", "position"} <= set(
        metrics["method"]
    )
    harmonised = metrics[metrics["method"] == "harmonised_unadapted"]
    assert set(harmonised["split"]) == {"validation", "adapted", "held_out"}
    assert "harmonised_coda_aligned_dmso" in set(metrics["method"])
    assert {"validation", "adapted", "held_out"} <= set(metrics["split"])
    assert {"image", "well", "compound"} == set(metrics["level"])
    assert {"accuracy", "gap_closed"} <= set(metrics["metric"])
    text = (folder / "results/summary.txt").read_text()
    assert "source 5" in text and "source 3" in text and "gap closed" in text
    pairs = [
        f"{kind}/source_5_to_source_3_seed_1"
        for kind in ("confusion", "gains", "calibration", "embedding")
    ]
    for stem in (
        "accuracy/source_5",
        "matrix",
        "slopes",
        "crops",
        *pairs,
        "training/source_5_seed_1",
        "sites_lost/source_3",
        "harmonisation/source_5_to_source_3",
        "harmonised_crops/source_5_to_source_3",
    ):
        for suffix in ("pdf", "png", "csv"):
            assert (folder / f"results/figures/{stem}.{suffix}").stat().st_size > 0


def test_a_run_gives_profiles_and_scores_of_the_features(finished):
    folder, _ = finished
    scores = pd.read_csv(folder / "results/representation.csv")
    assert {"unadapted", "coda", "position"} <= set(scores["method"])
    assert (scores["value"].notna() | scores["reason"].notna()).all()
    profiles = list((folder / "results/profiles/source_5/seed_1/coda/source_3").glob("*.parquet"))
    assert len(profiles) == 2
    assert "Metadata_JCP2022" in pd.read_parquet(profiles[0])


def test_the_report_is_whole(finished):
    folder, _ = finished
    sources, opened = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            opened.append(tag)
            if tag == "img":
                attributes = dict(attributes)
                assert attributes["alt"]
                sources.append(attributes["src"])

    page = (folder / "results/report.html").read_text()
    Reader().feed(page)
    assert len(sources) >= 8 and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"""(src|href)=["']?http""", page) and "table" in opened


def test_plates_are_harmonised_by_the_training_plates_and_adapted_to_so(finished):
    results = finished[0] / "results"
    filters = results / "harmonisation/source_5/source_3.parquet"
    rows = pd.read_parquet(filters).drop_duplicates("Metadata_Plate").set_index("Metadata_Plate")
    assert set(rows.index) == {"JCPQC90101", "JCPQC90201"}
    assert (rows["training_source"] == "source_5").all() and (rows["control_wells"] == 2).all()
    home = pd.read_parquet(results / "harmonisation/source_5/source_5.parquet")
    assert set(home["Metadata_Plate"]) == {"ACPJUM90201"}  # the held-out plate alone
    adapted = results / "models/source_5/seed_1/adapted/source_3"
    inputs = {
        name: read_header(adapted / name / "foundation.safetensors")["inputs"]
        for name in ("coda", "harmonised_coda")
    }
    path = "results/harmonisation/source_5/source_3.parquet"
    assert set(inputs["harmonised_coda"]) - set(inputs["coda"]) == {path}


def test_images_are_gone_and_manifests_stay(finished):
    folder, _ = finished
    assert not list((folder / "results/images").rglob("*.tiff"))
    manifests = [
        pd.read_parquet(path) for path in (folder / "results/manifests").rglob("*.parquet")
    ]
    assert len(manifests) == 4
    assert all(
        (manifest["status"] == "ok").all() and manifest["key"].str.startswith("source_").all()
        for manifest in manifests
    )


def test_every_job_left_a_log_and_a_benchmark(finished):
    folder, _ = finished
    logs = {
        path.relative_to(folder / "results/logs").with_suffix("")
        for path in (folder / "results/logs").rglob("*.log")
    }
    marks = {
        path.relative_to(folder / "results/benchmarks").with_suffix("")
        for path in (folder / "results/benchmarks").rglob("*.tsv")
    }
    assert logs == marks and len(logs) > 30


def test_no_training_states_are_left(finished):
    folder, _ = finished
    assert not list((folder / "results").rglob("*.states"))


def test_a_second_run_does_nothing(finished):
    folder, config = finished
    assert "Nothing to be done" in run_snakemake(folder, config).stdout


def test_a_figure_setting_redraws_that_figure_only(planned):
    assert planned("figures={compounds: 1}") == {"plot_crops", "write_report", "write_crate", "all"}


def test_more_epochs_of_adaptation_spare_the_pretraining(planned):
    rules = planned("adapt={epochs: 3}")
    assert {"adapt_foundation", "predict_sites", "score_predictions", "write_report"} <= rules
    assert rules.isdisjoint(
        {
            "download_plate",
            "extract_crops",
            "pretrain_foundation",
            "train_classifier",
            "train_supervised",
        }
    )


def test_another_way_to_harmonise_spares_what_is_not_harmonised(planned):
    rules = planned("harmonise={cap: 2}")
    assert {"fit_harmonisation", "adapt_foundation", "predict_sites", "plot_harmonisation"} <= rules
    assert rules.isdisjoint({"measure_spectra", "pretrain_foundation", "train_classifier"})
    assert "measure_spectra" in planned("harmonise={reference: shrunken}")


def test_how_to_fetch_changes_nothing_that_was_fetched(planned):
    # Report and provenance are written again, since they show the settings.
    rules = planned("gallery={workers: 4, attempts: 2, max_lost: 0.5}")
    assert rules == {"write_report", "write_crate", "all"}


def test_how_trainings_are_watched_and_compiled_trains_nothing_again(planned):
    watch = "watch={save_minutes: 1, patience: 3, tensorboard: true}"
    compute = "compute={compile: false, checkpoint_activations: true, gpus: 2, threads: 1}"
    assert planned(watch, compute) == {"write_report", "write_crate", "all"}


def test_local_views_are_no_matter_of_classifiers(planned):
    rules = planned("views={local_count: 4}")
    assert {"pretrain_foundation", "train_classifier"} <= rules
    assert "train_supervised" not in rules


def test_another_precision_trains_again(planned):
    assert {"pretrain_foundation", "train_supervised"} <= planned("compute={precision: fp32}")


def test_another_classifier_spares_the_foundations(planned):
    rules = planned("classify={epochs: 3}")
    assert "train_classifier" in rules
    assert rules.isdisjoint({"pretrain_foundation", "adapt_foundation", "train_supervised"})


def test_the_experiments_run_beside_a_finished_run(finished, tmp_path):
    """All of them, on both plates of the target: none is kept out, so there is a chain to go along."""
    shutil.copytree(finished[0], tmp_path / "run")
    config = yaml.safe_load(finished[1].read_text())
    config["sources"]["source_3"]["validation_plate"] = None
    config["methods"] = ["unadapted", "coda", "coda_aligned", "intensity", "position"]
    config["experiments"] = {
        "run": ["plates", "online", "compounds", "mix"],
        "plates": [1, 3],
        "online_epochs": 1,
    }
    path = tmp_path / "run/experiments.yaml"
    path.write_text(yaml.safe_dump(config))
    stems = ("plates_curve", "online", "new_compounds", "class_mix")
    figures = [f"results/figures/{stem}.png" for stem in stems]
    words = ["results/experiments.csv", *figures]
    run_snakemake(tmp_path / "run", path, *words)

    results = tmp_path / "run/results"
    scores = pd.read_csv(results / "experiments.csv")
    assert set(scores["experiment"]) == {
        "plates", "online", "new_compounds", "known_compounds", "half_mix", "whole_mix"
    }  # fmt: skip
    steps = scores.groupby("experiment")["step"].agg(set)
    assert steps["plates"] == {1, 2, 3} and steps["online"] == {1, 2}
    assert scores.loc[scores["step"] == 3, "value"].isna().all()
    assert "coda_aligned" in set(scores.loc[scores["experiment"] == "half_mix", "method"])
    place = results / "models/source_5/seed_1"
    inputs = {
        name: {Path(path).name for path in read_header(place / f"{name}.safetensors")["inputs"]}
        for name in (
            "adapted/source_3/plates_1/coda/foundation",
            "adapted/source_3/online_2/coda/foundation",
            "adapted/source_3/mix/coda/foundation",
            "known_compounds/task_model",
        )
    }
    both = {"JCPQC90101.arrow", "JCPQC90201.arrow"}
    files = list(inputs.values())
    assert len(files[0] & both) == len(files[1] & both) == 1 and files[2] >= {*both, "mix.csv"}
    assert files[3] >= {"compounds.csv", "ACPJUM90101.arrow"}
    chain = read_header(place / "adapted/source_3/online_2/coda/foundation.safetensors")["inputs"]
    assert any("online_1/coda/networks" in path for path in chain)
    for figure in figures:
        assert (tmp_path / "run" / figure).with_suffix(".csv").stat().st_size > 0


def test_switching_experiments_on_trains_nothing_again_and_never_adapts_to_the_plate_kept_out(
    finished,
):
    folder, config = finished
    switched = "experiments={run: [plates, online, compounds, mix]}"
    plan = run_snakemake(
        folder, config, "--dry-run", "results/experiments.csv", "--config", switched
    ).stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n    input: (.*)", plan, re.M)
    rules = {rule for rule, _ in jobs}
    assert {
        "adapt_experiment",
        "adapt_online",
        "train_known_compounds",
        "score_experiments",
    } <= rules
    assert rules.isdisjoint({"pretrain_foundation", "train_classifier", "adapt_foundation"})
    adapting = [inputs for rule, inputs in jobs if rule.startswith("adapt_")]
    assert adapting and all("JCPQC90101" in each for each in adapting)
    assert not any("JCPQC90201" in each for each in adapting)


def test_killed_while_downloading_and_while_training_it_still_completes(workdir):
    folder, config = workdir
    words = ["metrics", "--config", "methods=[unadapted, coda]"]
    command = snakemake_command(folder, config, *words)
    alone = [command[0], str(ROOT / "tools/run_alone.py"), *command]
    awaited = [
        ("results/images", lambda place: any(place.rglob("*.tiff"))),
        ("results/models", lambda place: any(place.rglob("*.states"))),
    ]
    for name, begun in awaited:
        with open(folder / "output.txt", "a") as output:
            running = subprocess.Popen(
                alone, cwd=folder, stdout=output, stderr=output, start_new_session=True
            )
            deadline = time.monotonic() + 240
            while (
                not begun(folder / name) and running.poll() is None and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            assert running.poll() is None, (folder / "output.txt").read_text()[-4000:]
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    manifests = {
        path: path.stat().st_mtime_ns for path in (folder / "results/manifests").rglob("*.parquet")
    }
    assert len(manifests) == 4
    done = subprocess.run(alone, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "An earlier run was killed" in done.stderr
    assert (folder / "results/metrics.csv").exists()
    assert manifests == {
        path: path.stat().st_mtime_ns for path in manifests
    }  # nothing was fetched twice


def test_the_papers_config_plans(tmp_path):
    config = ROOT / "config/config.yaml"
    done = run_snakemake(tmp_path, config, "--dry-run")
    assert "select_plates" in done.stdout and "pretrain_foundation" in done.stdout


def test_a_gpu_that_is_absent_is_told(finished, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns(".snakemake"))
    (tmp_path / "run/results/models/source_5/seed_1/supervised.safetensors").unlink()
    command = snakemake_command(tmp_path / "run", tmp_path / "run/run.yaml")
    profile = command.index("--workflow-profile")
    words = ["--workflow-profile", str(ROOT / "profiles/workstation"), "--rerun-triggers", "mtime"]
    words += ["--", "results/models/source_5/seed_1/supervised.safetensors"]
    done = subprocess.run(
        [*command[:profile], *command[profile + 2 :], *words],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "profiles/cpu" in said
