"""The script for a real pair of labs: its parts by hand, and all of it at toy size."""

import sys

import numpy as np
import pandas as pd
import pytest
import real
from coda.evaluation.units import LOGIT

RANDOM = np.random.default_rng(0)


def test_local_contrast_forgets_gain_and_offset():
    image = RANDOM.integers(0, 100, (1, 64, 64))
    one, other = real.local_contrast(image), real.local_contrast(2 * image + 30)
    assert np.abs(one.astype(int) - other).max() <= 3
    assert one.std() > 30


def test_all_images_of_a_cell_are_on_one_side():
    cells = pd.Series(RANDOM.integers(0, 100, 300).astype(str))
    apart = real.held_out(cells, 1)
    assert set(cells[apart]).isdisjoint(cells[~apart])
    assert cells[apart].nunique() == round(0.3 * cells.nunique())
    assert (apart != real.held_out(cells, 2)).any()


def test_balanced_accuracy_weighs_classes_and_its_interval_cells():
    truth = ["a"] * 30 + ["b"] * 10
    guess = ["a"] * 30 + ["a"] * 5 + ["b"] * 5
    table = pd.DataFrame({"Metadata_moa": [*truth, None]})
    for name in "ab":
        table[LOGIT + name] = [float(each == name) for each in [*guess, "b"]]
    one_a_cell = real.balanced(table.assign(Metadata_Well=np.arange(41).astype(str)), ["a", "b"])
    assert one_a_cell[0] == pytest.approx(0.75)
    assert one_a_cell[1] < 0.75 < one_a_cell[2]
    few = (np.arange(41) // 5).astype(str)
    by_cell = real.balanced(table.assign(Metadata_Well=few), ["a", "b"])
    assert by_cell[2] - by_cell[1] > one_a_cell[2] - one_a_cell[1]


@pytest.mark.slow
def test_both_directions_at_toy_size(tmp_path, monkeypatch):
    rows = [
        (lab, phase, f"{lab}_{phase}_{number // 2}")
        for lab in ("one", "two")
        for phase in ("round", "long", np.nan)
        for number in range(12)
    ]
    table = pd.DataFrame(rows, columns=["lab", "phase", "cell"]).rename_axis("row").reset_index()
    y, x = np.mgrid[:64, :64] - 31.5
    images = np.stack(
        [
            200 * np.exp(-((x / (12 if phase == "long" else 6)) ** 2 + (y / 6) ** 2))
            + RANDOM.normal(30, 3 if lab == "one" else 12, x.shape)
            for lab, phase, _ in rows
        ]
    )
    np.savez(tmp_path / "images.npz", images=images.clip(0, 255).astype(np.uint8))
    table.to_csv(tmp_path / "cells.csv", index=False)
    usual = real.settings()
    for part in ("pretrain", "adapt", "classify"):
        usual[part] |= {"epochs": 1, "warmup_epochs": 0, "batch_size": 8}
    monkeypatch.setattr(real, "settings", lambda second: usual)
    monkeypatch.setattr(real, "RESULTS", tmp_path)
    names = ["unadapted", "harmonised", "harmonised coda", "Linear, CORAL", "SHOT"]
    arguments = [str(tmp_path), "--keep", str(tmp_path / "kept"), "--methods", *names]
    monkeypatch.setattr(sys, "argv", ["real.py", *arguments])
    real.main()
    scores = pd.read_csv(tmp_path / "real_scores.csv")
    wanted = {"in domain", "unadapted", "unadapted, aligned", "harmonised", "harmonised, aligned"}
    wanted |= {"harmonised ODA", "harmonised ODA, aligned", "Linear, CORAL", "SHOT"}
    assert set(scores["method"]) == wanted
    assert len(scores) == 2 * (1 + 2 * (len(wanted) - 1))
    assert ((scores["low"] <= scores["value"]) & (scores["value"] <= scores["high"])).all()
    assert (tmp_path / "kept/one_two.png").exists()
    # The second run, of the training lab alone: the same split, with more to learn from.
    monkeypatch.setattr(real, "SECOND_STEPS", {"pretrain": 12, "classify": 12, "supervise": 12})
    arguments = [*arguments[:2], str(tmp_path / "second"), "--second", "--methods", "unadapted"]
    monkeypatch.setattr(sys, "argv", ["real.py", *arguments])
    real.main()
    scores = pd.read_csv(tmp_path / "real_second_scores.csv")
    assert set(scores["method"]) == {"in domain", "unadapted", "unadapted, aligned"}
    store = real.CropStore([tmp_path / "second/seed_1/turned/one.arrow"])
    first = real.CropStore([tmp_path / "kept/seed_1/crops/one/one_train.arrow"])
    assert set(store.table["Metadata_Well"]) == set(first.table["Metadata_Well"])
