"""Accuracies on single plates are those that one counts by hand, and their intervals those of a plate alone."""

import numpy as np
import pandas as pd
import pytest
from coda.evaluation.plate_accuracy import FEWEST, LEVELS, accuracies_by_plate
from coda.evaluation.scores import score_predictions
from coda.evaluation.units import LOGIT, classes_of, read_predictions, units
from predictions import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two training seeds; the last method has no answer on one target."""
    folder = tmp_path_factory.mktemp("plates")
    files, plates = write_world(folder, seeds=(1, 2))
    lost = next(file for file in files if file["method"] == "oda")
    table = pd.read_parquet(lost["path"]).assign(Reason="no DMSO well")
    table.to_parquet(lost["path"])
    return files, plates, lost, score_predictions(files, plates, replicates=60, seed=1)


def right_of(rows, classes, level):
    """Share of images or wells named right, counted by hand."""
    logits = [LOGIT + name for name in classes]
    rows = rows[rows["Metadata_moa"].notna()]
    if level == "well":
        rows = rows.groupby(["Metadata_Well", "Metadata_moa"], as_index=False)[logits].mean()
    named = np.array(classes)[rows[logits].to_numpy().argmax(axis=1)]
    return (named == rows["Metadata_moa"]).mean(), len(rows)


def test_every_plate_has_the_share_that_one_counts(world):
    files, plates, lost, found = world
    table = found.by_plate.set_index(
        ["train_source", "Metadata_Source", "Metadata_Plate", "method", "level"]
    )
    assert table.index.is_unique and set(found.by_plate["level"]) == set(LEVELS)
    counted: dict[tuple, list] = {}
    for file in files:
        home = file["train_source"] == file["target_source"]
        predictions = read_predictions(file["path"])
        for plate, rows in predictions.groupby("Metadata_Plate"):
            if "Reason" in rows or (home and plate not in held_out(plates)):
                continue
            method = "in_domain" if home and file["method"] == "unadapted" else file["method"]
            for level in LEVELS:
                key = (file["train_source"], file["target_source"], plate, method, level)
                counted.setdefault(key, []).append(right_of(rows, classes_of(predictions), level))
    assert set(table.index) == set(counted)
    for key, each in counted.items():
        values, sizes = zip(*each, strict=True)
        row = table.loc[key]
        assert row["value"] == pytest.approx(np.mean(values))
        assert row["n"] == sizes[0] and row["seeds"] == len(each)
        assert row["low"] <= row["value"] <= row["high"]
    missing = table.loc[lost["train_source"], lost["target_source"]].index.get_level_values(
        "method"
    )
    assert "coda" in missing


def held_out(plates):
    """Names of held-out plates."""
    return set(plates.loc[plates["subset"] == "validation", "Metadata_Plate"])


def test_the_interval_of_a_plate_does_not_depend_on_the_others(world):
    files, plates, lost, _ = world
    file = next(each for each in files if each["method"] == "coda" and each is not lost)
    rows = read_predictions(file["path"])
    classes = classes_of(rows)
    together = accuracies_by_plate(units(rows, classes, "image"), 50, 3)
    assert len(together) > 1
    for stratum, estimate in together.items():
        own = rows[rows["Metadata_Plate"] == stratum.split("/")[1]]
        (alone,) = accuracies_by_plate(units(own, classes, "image"), 50, 3).values()
        assert np.allclose(alone.replicates, estimate.replicates)
        assert alone.score == estimate.score


def test_a_plate_of_few_wells_has_no_interval(world):
    files, _, lost, _ = world
    file = next(each for each in files if each["method"] == "coda" and each is not lost)
    rows = read_predictions(file["path"])
    plate = rows["Metadata_Plate"].iloc[0]
    own = rows[(rows["Metadata_Plate"] == plate) & rows["Metadata_moa"].notna()]
    wells = own["Metadata_Well"].unique()
    for number, known in ((FEWEST - 1, False), (FEWEST, True)):
        few = own[own["Metadata_Well"].isin(wells[:number])]
        (found,) = accuracies_by_plate(units(few, classes_of(rows), "image"), 50, 3).values()
        assert 0 <= found.score.value <= 1
        assert np.isfinite(found.replicates).all() == known
