"""What a whole run leaves."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch
from coda.training.checkpoints import read_header
from places import ROOT
from workflow_run import copy_run, run_snakemake


def test_a_run_gives_metrics_figures_and_report(results):
    metrics = pd.read_csv(results / "metrics.csv", keep_default_na=False)
    assert {"in_domain", "unadapted", "oda", "coda", "supervised", "intensity", "position"} <= set(
        metrics["method"]
    )
    harmonised = metrics[metrics["method"] == "harmonised_unadapted"]
    assert set(harmonised["split"]) == {"validation", "adapted", "held_out"}
    assert "harmonised_coda_consensus" in set(metrics["method"])
    assert {"validation", "adapted", "held_out"} <= set(metrics["split"])
    assert {"image", "well", "compound"} == set(metrics["level"])
    assert {"accuracy", "gap_closed"} <= set(metrics["metric"])
    text = (results / "summary.txt").read_text()
    assert "source 5" in text and "source 3" in text and "gap closed" in text
    pairs = [
        f"{kind}/source_5_to_source_3_seed_1"
        for kind in ("confusion", "gains", "calibration", "embedding", "attention")
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
            assert (results / f"figures/{stem}.{suffix}").stat().st_size > 0


def test_a_run_gives_profiles_and_scores_of_the_features(results):
    scores = pd.read_csv(results / "representation.csv")
    assert {"unadapted", "coda", "position"} <= set(scores["method"])
    assert (scores["value"].notna() | scores["reason"].notna()).all()
    profiles = list((results / "profiles/source_5/seed_1/coda/source_3").glob("*.parquet"))
    assert len(profiles) == 2
    assert "Metadata_JCP2022" in pd.read_parquet(profiles[0])


def test_the_report_is_whole(results):
    sources, opened = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            opened.append(tag)
            if tag == "img":
                attributes = dict(attributes)
                assert attributes["alt"]
                sources.append(attributes["src"])

    page = (results / "report.html").read_text()
    Reader().feed(page)
    assert len(sources) >= 8 and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"""(src|href)=["']?http""", page) and "table" in opened


def test_plates_are_harmonised_by_the_training_plates_and_adapted_to_so(results):
    filters = results / "harmonisation/source_5/source_3.parquet"
    rows = pd.read_parquet(filters).drop_duplicates("Metadata_Plate").set_index("Metadata_Plate")
    assert set(rows.index) == {"JCPQC90101", "JCPQC90201"}
    assert (rows["training_source"] == "source_5").all() and (rows["control_wells"] == 2).all()
    home = pd.read_parquet(results / "harmonisation/source_5/source_5.parquet")
    assert set(home["Metadata_Plate"]) == {"ACPJUM90201"}  # the held-out plate alone
    adapted = results / "models/source_5/seed_1/adapted/source_3"
    inputs = {
        name: read_header(adapted / name / "foundation.safetensors")["inputs"]
        for name in ("coda", "harmonised_coda_consensus")
    }
    model = "results/tiny/models/source_5/seed_1"
    assert set(inputs["harmonised_coda_consensus"]) - set(inputs["coda"]) == {
        "results/tiny/harmonisation/source_5/source_3.parquet",
        f"{model}/task_model.safetensors",
        f"{model}/tokens.safetensors",
    }


def test_a_method_is_recommended_for_the_target_and_the_report_begins_with_it(results):
    table = pd.read_csv(results / "recommendation.csv")
    candidates = ["unadapted", "oda", "coda", "coda_aligned_dmso"]
    candidates += ["harmonised_unadapted", "harmonised_coda_consensus", "supervised"]
    assert table["method"].tolist() == candidates
    assert table["chosen"].sum() == 1 and table["confidence"].sum() == pytest.approx(1)
    assert table["control_distance"].between(0, 1).all()
    assert "For source 3: use" in (results / "report.html").read_text()


def test_images_are_gone_and_manifests_stay(results):
    assert not list((results / "images").rglob("*.tiff"))
    manifests = [pd.read_parquet(path) for path in (results / "manifests").rglob("*.parquet")]
    assert len(manifests) == 4
    assert all(
        (manifest["status"] == "ok").all() and manifest["key"].str.startswith("source_").all()
        for manifest in manifests
    )


def test_every_job_left_a_log_and_a_benchmark(results):
    logs = {
        path.relative_to(results / "logs").with_suffix("")
        for path in (results / "logs").rglob("*.log")
    }
    marks = {
        path.relative_to(results / "benchmarks").with_suffix("")
        for path in (results / "benchmarks").rglob("*.tsv")
    }
    assert logs == marks and len(logs) > 30


def test_no_training_states_are_left(results):
    assert not list(results.rglob("*.states"))


def test_a_second_run_does_nothing(finished):
    folder, config = finished
    assert "Nothing to be done" in run_snakemake(folder, config).stdout


def test_a_gpu_that_is_absent_is_told(finished, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    run = copy_run(finished[0], tmp_path / "run")
    weights = "results/tiny/models/source_5/seed_1/supervised.safetensors"
    (run / weights).unlink()
    words = ["--workflow-profile", str(ROOT / "profiles/workstation"), "--", weights]
    done = run_snakemake(run, run / "config/tiny.yaml", *words, check=False)
    assert done.returncode != 0 and "profiles/cpu" in done.stdout
