"""Scores of the experiments against plain pandas, and the figures and words made of them."""

import gc
import re

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.experiment_parts import find_pairs
from coda.evaluation.experiment_scores import read_experiment_scores, score_experiments
from coda.evaluation.experiments import in_batch_order, spread_over_batches
from coda.evaluation.scores import score_predictions
from coda.figures.experiments import online_curve, paired_bars, plates_curve
from coda.files import write_table
from coda.report.experiment_findings import experiment_findings
from coda.report.sections import report_sections
from drawings import assert_readable
from plates import inspected
from predictions import make_predictions, write_predictions, write_world
from score_tables import HOME, TARGET, representation, told
from statsmodels.stats.multitest import multipletests

TRAIN = [("B2", "T3"), ("B10", "T4"), ("B2", "T1"), ("B1", "T2")]
COUNTS = [1, 2, 9]
RUN = ["plates", "online", "compounds", "mix"]
CONTROLS = ("intensity", "position")
KINDS = {"known_compounds": "known", "new_compounds": "new"}


def run(seed, name, path):
    """Say what a file of predictions holds, as its name in `world` tells."""
    experiment, method, target = name.removesuffix(".parquet").split("/")[-3:]
    return {
        "train_source": HOME,
        "seed": seed,
        "experiment": "standard" if experiment.startswith("seed_") else experiment,
        "method": method,
        "target_source": target,
        "path": path,
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two seeds of one pair: predictions of every experiment, with skills that make known differences."""
    folder = tmp_path_factory.mktemp("experiments")
    files, choices = [], []
    target = [plate for _, plate in TRAIN] + ["T9"]
    order = in_batch_order(TRAIN)
    for seed in (1, 2):
        place = f"{HOME}/seed_{seed}"
        wanted = [
            (f"{place}/unadapted/{HOME}", HOME, ["H9"], 3.0),
            (f"{place}/unadapted/{TARGET}", TARGET, target, 0.5),
            (f"{place}/coda/{TARGET}", TARGET, target, 2.0),
            (f"experiments/{place}/mix/coda/{TARGET}", TARGET, target, 1.2),
        ]
        wanted += [
            (f"experiments/{place}/plates_{count}/coda/{TARGET}", TARGET, target, 1 + count / 4)
            for count in (1, 2)
        ]
        for method in ("unadapted", "coda", *CONTROLS):
            skill = {"unadapted": 0.6, "coda": 1.5, "intensity": 0.8, "position": 0.0}[method]
            wanted.append(
                (f"experiments/{place}/compounds/{method}/{TARGET}", TARGET, target, skill)
            )
            if method != "coda":
                wanted.append(
                    (f"experiments/{place}/compounds/{method}/{HOME}", HOME, ["H9"], skill)
                )
        for name, source, plates, skill in wanted:
            path = f"{name}.parquet"
            path = write_predictions(folder, len(files), source, plates, path, skill)
            files.append(run(seed, name, path))
        for step in range(1, 5):
            path = f"experiments/{place}/online_{step}/coda/{TARGET}.parquet"
            seen = make_predictions(
                50 + step, compounds=4, plates=[*order[: step + 1], "T9"], skill=1 + step / 4
            )
            home = make_predictions(90 + step, compounds=4, plates=["H9"], skill=3 - step / 2)
            whole = [home.assign(Metadata_Source=HOME), seen.assign(Metadata_Source=TARGET)]
            write_table(pd.concat(whole), folder / path)
            files.append(run(seed, path, str(folder / path)))
        compounds = [f"JCP_{number}" for number in range(16)]
        for choice, roles in {
            "compounds": ["used", "kept_out"] * 8,
            "mix": ["used"] * 8 + ["kept_out"] * 8,
        }.items():
            path = folder / f"experiments/{place}/{choice}.csv"
            write_table(pd.DataFrame({"Metadata_JCP2022": compounds, "role": roles}), path)
            each = {"train_source": HOME, "seed": seed, "choice": choice, "path": str(path)}
            choices.append(each)
    plates = pd.DataFrame(TRAIN, columns=["Metadata_Batch", "Metadata_Plate"]).assign(
        Metadata_Source=TARGET, subset="train"
    )
    more = [("B1", "T9", TARGET, "validation"), ("A", "H9", HOME, "validation")]
    plates = pd.concat([plates, pd.DataFrame(more, columns=plates.columns)])
    pairs = find_pairs(files, choices, plates)
    return folder, pairs, score_experiments(pairs, RUN, COUNTS, replicates=200, seed=5)


def accuracy(folder, path, plates, compounds=None, level="image"):
    """Mean over seeds, by plain pandas."""
    values = []
    for seed in (1, 2):
        table = pd.read_parquet(folder / path.format(seed=seed))
        table = table[table["Metadata_Plate"].isin(plates) & table["Metadata_moa"].notna()]
        if compounds is not None:
            table = table[table["Metadata_JCP2022"].isin(compounds)]
        logits = [name for name in table if name.startswith("Logit_")]
        table = table.astype(dict.fromkeys(logits, float))
        if level == "well":
            table = table.groupby(["Metadata_Plate", "Metadata_Well", "Metadata_moa"])[logits]
            table = table.mean().reset_index()
        guess = table[logits].idxmax(axis=1).str.removeprefix("Logit_")
        values.append((guess == table["Metadata_moa"]).mean())
    return np.mean(values)


EXPERIMENT = "experiments/source_1/seed_{seed}/"
PLAIN = "source_1/seed_{seed}/unadapted/source_2.parquet"
CODA = "source_1/seed_{seed}/coda/source_2.parquet"


@pytest.mark.parametrize("level", ["image", "well"])
def test_growing_numbers_of_plates(world, level):
    folder, _, scores = world
    order = spread_over_batches(TRAIN)
    assert order == ["T2", "T1", "T4", "T3"]
    for count, path in {1: "plates_1", 2: "plates_2", 4: None}.items():
        path = EXPERIMENT + f"{path}/coda/source_2.parquet" if path else CODA
        splits = {"adapted": order[:count], "unseen": order[count:], "held_out": ["T9"]}
        for split, plates in splits.items():
            if plates:
                for method, own in (("coda", path), ("unadapted", PLAIN)):
                    row = told(scores, "plates", count, method, split, level)
                    assert row["value"] == pytest.approx(accuracy(folder, own, plates, level=level))
                    assert row["low"] <= row["value"] <= row["high"] and row["seeds"] == 2
    assert not len(scores[(scores["step"] == 4) & (scores["split"] == "unseen")])


def test_a_number_of_plates_that_is_not_there_is_told(world):
    _, _, scores = world
    row = told(scores, "plates", 9, "coda", "held_out")
    assert np.isnan(row["value"]) and row["n"] == 0 and "source_2 has 4 plates" in row["reason"]
    assert "source_2 has 4 plates" in " ".join(experiment_findings(scores))


def test_plate_after_plate_before_after_seen_and_forgotten(world):
    folder, _, scores = world
    order = in_batch_order(TRAIN)
    assert order == ["T2", "T1", "T3", "T4"]
    before = PLAIN
    for step in range(1, 5):
        after = EXPERIMENT + f"online_{step}/coda/source_2.parquet"
        wanted = {
            ("before", "new"): (before, [order[step - 1]]),
            ("coda", "new"): (after, [order[step - 1]]),
            ("coda", "seen"): (after, order[:step]),
            ("coda", "held_out"): (after, ["T9"]),
            ("coda", "home"): (after, ["H9"]),
            ("unadapted", "home"): ("source_1/seed_{seed}/unadapted/source_1.parquet", ["H9"]),
        }
        found = {key: told(scores, "online", step, *key)["value"] for key in wanted}
        for key, (path, plates) in wanted.items():
            assert found[key] == pytest.approx(accuracy(folder, path, plates)), (step, key)
        gain = told(scores, "online", step, "coda", "new", metric="difference", baseline="before")
        assert gain["value"] == pytest.approx(found["coda", "new"] - found["before", "new"])
        assert gain["low"] <= gain["value"] <= gain["high"]
        lost = told(scores, "online", step, "coda", "home", metric="difference")
        assert lost["value"] == pytest.approx(found["coda", "home"] - found["unadapted", "home"])
        before = after


def test_tests_are_corrected_once_over_the_steps_of_an_experiment(world, monkeypatch):
    monkeypatch.setattr(gc, "collect", int)  # statsmodels' Holm calls it each time; it takes long
    _, _, scores = world
    tests = scores[scores["p"].notna()]
    families = tests.groupby(["experiment", "split", "level", tests["train_source"] == "all"])
    assert max(family["step"].nunique() for _, family in families) == 4
    for _, family in families:
        expected = multipletests(family["p"], method="holm")[1]
        assert family["p_holm"].to_numpy() == pytest.approx(expected)
    before = scores[(scores["method"] == "before") & (scores["baseline"] == "unadapted")]
    assert set(before["step"]) == {2, 3, 4}


def test_known_and_new_compounds_are_told_apart(world):
    folder, _, scores = world
    known = {f"JCP_{number}" for number in range(0, 16, 2)}
    new = {f"JCP_{number}" for number in range(1, 16, 2)}
    for experiment, compounds in (("known_compounds", known), ("new_compounds", new)):
        for method in ("unadapted", "coda", *CONTROLS):
            path = EXPERIMENT + f"compounds/{method}/source_2.parquet"
            row = told(scores, experiment, None, method, "held_out")
            assert row["value"] == pytest.approx(accuracy(folder, path, ["T9"], compounds))
            assert row["n"] == 8 * 3
        path = EXPERIMENT + "compounds/unadapted/source_1.parquet"
        row = told(scores, experiment, None, "in_domain", "validation")
        assert row["value"] == pytest.approx(accuracy(folder, path, ["H9"], compounds))
    assert told(scores, "new_compounds", None, "coda", "held_out", metric="gap_closed") is not None


def test_half_of_the_mechanisms_is_tested_on_that_half(world):
    folder, _, scores = world
    half = {f"JCP_{number}" for number in range(8)}
    for experiment, path in (
        ("half_mix", EXPERIMENT + "mix/coda/source_2.parquet"),
        ("whole_mix", CODA),
    ):
        row = told(scores, experiment, None, "coda", "adapted")
        plates = [plate for _, plate in TRAIN]
        assert row["value"] == pytest.approx(accuracy(folder, path, plates, half))
        undefined = told(scores, experiment, None, "coda", "adapted", metric="macro_f1")
        assert np.isnan(undefined["value"]) and "no example of moa 2" in undefined["reason"]


def test_scores_are_the_same_after_a_file(world, tmp_path):
    _, _, scores = world
    write_table(scores, tmp_path / "scores.csv")
    again = read_experiment_scores(tmp_path / "scores.csv")
    numbers = ["step", "value", "low", "high", "n"]
    pd.testing.assert_frame_equal(again[numbers], scores[numbers], check_dtype=False)


def test_a_plate_that_was_not_predicted_is_named(world):
    folder, pairs, _ = world
    pairs[0].plates.append(("B11", "T7"))
    try:
        with pytest.raises(UserError, match="T7"):
            score_experiments(pairs[:1], ["plates"], [1], replicates=100)
    finally:
        pairs[0].plates.pop()


@pytest.mark.parametrize(
    "draw", [plates_curve, online_curve, lambda scores: paired_bars(scores, KINDS)]
)
def test_figures_can_be_read(world, draw):
    _, _, scores = world
    drawing = draw(scores)
    assert_readable(drawing.figure)
    assert len(drawing.table) and drawing.table["level"].eq("image").all()


def test_bars_are_as_long_as_the_accuracies(world):
    _, _, scores = world
    drawing = paired_bars(scores, KINDS)
    axes = drawing.figure.axes[2]  # the held-out plate
    assert axes.get_title() == "Target, held-out plate"
    rows = drawing.table.query(
        "train_source == 'all' and split == 'held_out' and method != 'chance'"
    )
    assert sorted(bar.get_width() for bar in axes.patches) == pytest.approx(sorted(rows["value"]))


def test_words_say_what_the_numbers_say(world):
    _, _, scores = world
    text = "\n".join(experiment_findings(scores))
    kept = told(scores, "new_compounds", None, "coda", "held_out", train_source="all")
    assert f"{kept['value']:.3f} ({kept['low']:.3f} to {kept['high']:.3f}) on new compounds" in text
    assert "Control: well position only" in text and "not clearly above a constant guess" in text
    assert "After 4 plates of source 2" in text


def test_a_control_is_judged_by_the_interval_over_compounds(world):
    _, _, scores = world
    rows = (scores["baseline"] == "intensity") & (scores["method"] == "coda")
    ends = ["value", "low", "low_compounds", "high_compounds"]
    for values, words in (
        ((0.2, -0.1, 0.1, 0.3), None),
        ((0.2, 0.1, -0.1, 0.5), "Warning: not clearly above the control of intensities"),
        ((np.nan,) * 4, "as the difference is undefined: CODA."),
    ):
        table = scores.copy()
        table.loc[rows, ends] = values
        text = " ".join(experiment_findings(table))
        assert words in text if words else "control of intensities" not in text


def test_position_is_held_against_a_constant_guess_over_compounds(world):
    """Its guess about a compound is the same on every plate, so wells repeat one accident."""
    _, _, scores = world
    rows = (scores["method"] == "position") & (scores["metric"] == "accuracy")
    for low, words in ((0.3, "clearly above"), (0.2, "not clearly above")):
        table = scores.copy()
        table.loc[rows, ["low", "low_compounds"]] = 0.3, low
        text = " ".join(experiment_findings(table)).split("Control: well position only")[1]
        assert f"over compounds {words} a constant guess (0.250)" in text.split("Intensities")[0]


def test_a_target_without_a_held_out_plate_is_told_by_the_adapted_ones(world):
    _, pairs, _ = world
    kept, pairs[0].held_out = pairs[0].held_out, ()
    try:
        scores = score_experiments(pairs[:1], RUN, COUNTS, replicates=100)
    finally:
        pairs[0].held_out = kept
    empty = told(scores, "new_compounds", None, "coda", "held_out")
    assert np.isnan(empty["value"]) and empty["reason"] == "no labelled images"
    text = " ".join(experiment_findings(scores))
    assert not re.search("held-out plate[:.]", text) and "adapted plates" in text
    for draw in (plates_curve, online_curve, lambda scores: paired_bars(scores, KINDS)):
        titles = [axes.get_title() for axes in draw(scores).figure.axes]
        assert titles and not {"Held-out plate", "Target, held-out plate"} & {*titles}


def test_each_pair_is_told_by_the_plates_it_was_tested_on(world):
    _, _, scores = world
    other = scores[(scores["train_source"] == HOME) & (scores["split"] != "held_out")]
    both = pd.concat([scores, other.assign(target_source="source_3")])
    text = " ".join(experiment_findings(both))
    assert "From source 1 to source 2, accuracy on the held-out plate" in text
    assert "From source 1 to source 3, accuracy on the adapted plates" in text
    untested = both[both["method"] != "coda"]
    assert "not defined with 1 plate" in " ".join(experiment_findings(untested))


def test_the_report_shows_the_experiments_that_ran(world, tmp_path):
    files, plates = write_world(tmp_path)
    plates["Metadata_Batch"] = "B1"
    given = dict(
        summary=score_predictions(files, plates, replicates=50).summary,
        representation=representation(),
        quality=inspected(plates),
        plates=plates,
        folder="figures",
        figures=["figures/accuracy.png", "figures/online.png"],
        config={
            "figures": {"level": "image"},
            "train_sources": ["source_1"],
            "target_sources": ["source_2"],
        },
    )
    sections = {
        section.title: section for section in report_sections(**given, experiments=world[2])
    }
    shown = sections["Experiments"]
    assert [path for path, _ in shown.figures] == ["figures/online.png"]
    assert "what was forgotten" in shown.figures[0][1] and "New compounds" in shown.text
    assert "Experiments" not in {section.title for section in report_sections(**given)}
