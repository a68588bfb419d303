"""The experiments beside the standard run, and what they may see."""

import re

import pandas as pd
import yaml
from coda.training.checkpoints import read_header
from workflow_run import copy_run, rules_of, run_snakemake


def test_the_experiments_run_beside_a_finished_run(finished, tmp_path):
    """All of them, on both plates of the target: none is held out, so there is a chain to go along."""
    run = copy_run(finished[0], tmp_path / "run")
    config = yaml.safe_load(finished[1].read_text())
    config["sources"]["source_3"]["validation_plate"] = None
    config["methods"] = ["unadapted", "coda", "coda_aligned", "intensity", "position"]
    config["experiments"] = {
        "run": ["plates", "online", "compounds", "mix"],
        "plates": [1, 3],
        "online_epochs": 1,
    }
    path = run / "experiments.yaml"
    # Settings in another order would be other params.
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    stems = ("plates_curve", "online", "new_compounds", "class_mix")
    figures = [f"results/tiny/figures/{stem}.png" for stem in stems]
    done = run_snakemake(run, path, "results/tiny/experiments.csv", *figures)
    assert rules_of(done).isdisjoint({"simulate_gallery", "extract_crops", "pretrain_foundation"})

    results = run / "results/tiny"
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
        name: {path.split("/")[-1] for path in read_header(place / f"{name}.safetensors")["inputs"]}
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
        assert (run / figure).with_suffix(".csv").stat().st_size > 0


def test_switching_experiments_on_trains_nothing_again_and_never_adapts_to_the_held_out_plate(
    finished,
):
    switched = "experiments={run: [plates, online, compounds, mix]}"
    words = ["--dry-run", "results/tiny/experiments.csv", "--config", switched]
    plan = run_snakemake(*finished, *words).stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n    input: (.*)", plan, re.M)
    rules = {rule for rule, _ in jobs}
    assert {"adapt_to_mix", "adapt_online", "train_known_compounds", "score_experiments"} <= rules
    assert rules.isdisjoint({"pretrain_foundation", "train_classifier", "adapt_foundation"})
    adapting = [inputs for rule, inputs in jobs if rule.startswith("adapt_")]
    assert adapting and all("JCPQC90101" in each for each in adapting)
    assert not any("JCPQC90201" in each for each in adapting)
