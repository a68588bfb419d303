"""The study's tables on predictions with known answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.estimates import gap_closed
from coda.evaluation.metrics import score
from coda.evaluation.scores import read_scores, score_predictions
from coda.evaluation.units import classes_of
from coda.files import read_table, write_table
from coda.report.tables import GAP, accuracy_frame
from predictions import SKILL, write_world
from score_tables import pick


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    files, plates = write_world(tmp_path_factory.mktemp("world"), seeds=(0, 1))
    return files, plates, score_predictions(files, plates, replicates=300, seed=7)


def test_splits_hold_the_right_plates(world):
    files, plates, found = world
    file = next(file for file in files if file["method"] == "coda" and file["seed"] == 1)
    table = read_table(file["path"])
    ids = {name: file[name] for name in ("train_source", "target_source", "seed", "method")}
    for split, subset in (("adapted", "train"), ("held_out", "validation")):
        wanted = plates.loc[plates["subset"] == subset, "Metadata_Plate"]
        rows = table[table["Metadata_Plate"].isin(wanted)]
        for level in ("image", "well", "compound"):
            expected = score(rows, classes_of(table), level)
            part = pick(found.metrics, **ids, split=split, level=level, baseline=None).set_index(
                "metric"
            )
            assert set(part.index) == set(expected)
            for metric, (value, _) in expected.items():
                assert part.loc[metric, "value"] == pytest.approx(value, abs=1e-12)
            assert (
                part.loc["accuracy", "low"]
                <= part.loc["accuracy", "value"]
                <= part.loc["accuracy", "high"]
            )


def test_in_domain_is_the_validation_plate_only(world):
    files, plates, found = world
    rows = pick(found.metrics, method="in_domain", metric="accuracy", level="image", seed=0)
    assert set(rows["split"]) == {"validation"}
    assert (rows["train_source"] == rows["target_source"]).all()
    assert (rows["n"] == 24 * 3).all()
    assert not len(pick(found.metrics, method="unadapted", split="validation"))


def test_gains_and_gap_closed_are_arithmetic_of_the_accuracies(world):
    _, _, found = world
    at = {
        "train_source": "source_1",
        "target_source": "source_2",
        "split": "held_out",
        "level": "image",
    }
    value = {
        method: pick(found.summary, **at, method=method, metric="accuracy")["value"].item()
        for method in ("unadapted", "coda", "oda")
    }
    home = pick(
        found.summary, train_source="source_1", method="in_domain", level="image", metric="accuracy"
    )["value"].item()
    gain = pick(found.summary, **at, method="coda", metric="difference", baseline="unadapted")[
        "value"
    ].item()
    assert gain == pytest.approx(value["coda"] - value["unadapted"])
    gap = pick(found.summary, **at, method="coda", metric="gap_closed").iloc[0]
    assert gap["value"] == pytest.approx(gain / (home - value["unadapted"]))
    assert gap["low"] < gap["value"] < gap["high"]


def test_means_over_seeds_and_pairs(world):
    _, _, found = world
    rows = pick(found.metrics, method="coda", split="adapted", level="image", metric="macro_f1")
    mean = pick(
        found.summary,
        train_source="all",
        method="coda",
        split="adapted",
        level="image",
        metric="macro_f1",
    ).iloc[0]
    assert mean["value"] == pytest.approx(rows["value"].mean())
    assert (mean["pairs"], mean["seeds"], mean["n"]) == (2, 2, 2 * 48 * 3)
    gap = pick(
        found.summary,
        train_source="all",
        method="coda",
        split="adapted",
        level="image",
        metric="gap_closed",
    ).iloc[0]
    plain, coda = (
        pick(found.metrics, method=m, split="adapted", level="image", metric="accuracy")[
            "value"
        ].mean()
        for m in ("unadapted", "coda")
    )
    home = pick(found.metrics, method="in_domain", level="image", metric="accuracy")["value"].mean()
    assert gap["value"] == pytest.approx((coda - plain) / (home - plain))


def test_a_paired_difference_is_narrower_than_its_parts(world):
    """The same method against itself under another name differs by exactly nothing, in every resample."""
    files, plates, _ = world
    some = [file for file in files if file["seed"] == 0 and file["method"] in ("unadapted", "coda")]
    twins = [file | {"method": "oda"} for file in some if file["method"] == "coda"]
    found = score_predictions(some + twins, plates, replicates=200)
    rows = pick(found.metrics, method="coda", metric="difference", baseline="oda")
    assert len(rows)
    assert (rows[["value", "low", "high"]] == 0).all(axis=None)


def test_constant_guess_has_no_interval(world):
    _, _, found = world
    rows = pick(found.metrics, method="chance", metric="accuracy", level="image")
    assert rows["value"].to_numpy() == pytest.approx(0.25)
    assert rows[["low", "high"]].isna().all(axis=None)


def test_no_gap_no_share_of_it(tmp_path):
    files, plates = write_world(tmp_path, skill=SKILL | {"in_domain": 0.0, "unadapted": 3.0})
    found = score_predictions(files, plates, replicates=50)
    rows = pick(found.metrics, metric="gap_closed", level="image")
    assert len(rows)
    assert rows[["value", "low", "high"]].isna().all(axis=None)
    assert rows["reason"].str.contains("no gap").all()
    assert np.isnan(gap_closed(0.3, 0.3, 0.4).value)
    assert gap_closed(0.34, 0.14, 0.33).value == pytest.approx(0.95)


def test_order_of_files_and_rows_changes_nothing(world):
    files, plates, found = world
    again = score_predictions(
        files[::-1], plates.sample(frac=1, random_state=0), replicates=300, seed=7
    )
    keys = [
        name
        for name in found.metrics.columns
        if name not in ("value", "low", "high", "low_compounds", "high_compounds", "n", "reason")
    ]
    pd.testing.assert_frame_equal(
        found.metrics.sort_values(keys, ignore_index=True),
        again.metrics.sort_values(keys, ignore_index=True),
    )


def test_tables_survive_their_files(world, tmp_path):
    _, _, found = world
    for name, table in (("metrics", found.metrics), ("summary", found.summary)):
        for suffix in ("parquet", "csv"):
            path = tmp_path / f"{name}.{suffix}"
            write_table(table, path)
            back = read_scores(path)
            assert back["baseline"].isna().sum() == table["baseline"].isna().sum() > 0
            numbers = table.select_dtypes("number").columns
            pd.testing.assert_frame_equal(back[numbers], table[numbers], check_exact=True)
            assert back["train_source"].tolist() == table["train_source"].tolist()


def test_unequal_sites_classes_and_plates_are_refused(tmp_path):
    files, plates = write_world(tmp_path)
    table = read_table(files[-1]["path"])
    write_table(table.iloc[1:], files[-1]["path"])
    with pytest.raises(UserError, match="different sites"):
        score_predictions(files, plates, replicates=10)
    write_table(table.drop(columns="Logit_moa 3"), files[-1]["path"])
    with pytest.raises(UserError, match="classes"):
        score_predictions(files, plates, replicates=10)
    write_table(table, files[-1]["path"])
    with pytest.raises(UserError, match="not among the plates"):
        score_predictions(files, plates[plates["Metadata_Plate"] != "source_2-P3"], replicates=10)


def test_another_classifier_is_compared_with_itself_before_adaptation(world):
    files, plates, _ = world
    names = {"unadapted": "unadapted_knn", "coda": "coda_knn"}
    one = [file for file in files if file["seed"] == 0 and file["method"] in names]
    probes = [file | {"method": names[file["method"]]} for file in one]
    found = score_predictions(one + probes, plates, replicates=100).summary
    assert set(pick(found, metric="gap_closed")["method"]) == {"coda"}
    mine = pick(found, method="coda_knn", metric="difference", baseline="unadapted_knn")
    task = pick(found, method="coda", metric="difference", baseline="unadapted")
    assert len(mine) and mine["p_holm"].notna().all()
    numbers = ["value", "low", "high", "p"]
    assert mine[numbers].to_numpy() == pytest.approx(task[numbers].to_numpy())
    assert pick(found, method="coda_knn", baseline="unadapted")["p"].isna().all()


def test_without_a_plate_kept_out_its_scores_are_empty_and_say_why(tmp_path):
    files, plates = write_world(tmp_path)
    files = [
        file
        for file in files
        if file["target_source"] == "source_2" or file["train_source"] == "source_1"
    ]
    files = [file for file in files if file["train_source"] == "source_1"]
    plates.loc[plates["Metadata_Plate"] == "source_2-P3", "subset"] = "train"
    found = score_predictions(files, plates, replicates=20)
    rows = pick(found.metrics, split="held_out")
    assert len(rows)
    assert rows[["value", "low", "high"]].isna().all(axis=None)
    assert (rows["n"] == 0).all()
    assert (rows["reason"] == "no labelled images").all()


def test_a_split_that_a_method_cannot_answer_is_empty_and_says_why(world):
    files, plates, _ = world
    one = [f for f in files if f["seed"] == 0 and f["method"] in ("unadapted", "coda")]
    file = next(f for f in one if f["method"] == "coda")
    table = read_table(file["path"])
    first = (
        table["Metadata_Plate"] == table["Metadata_Plate"].iloc[0]
    )  # a plate of the split adapted
    logits = [name for name in table if name.startswith("Logit_")]
    table.loc[first, logits] = np.nan
    path = Path(file["path"]).with_name("holes.parquet")
    write_table(table.assign(Reason=pd.Series("no DMSO").where(first)), path)
    kept = table[table["Metadata_Plate"].isin(plates.query("subset == 'validation'").iloc[:, 1])]
    home = Path(file["path"]).with_name("home.parquet")
    write_table(kept, home)
    ids = {name: file[name] for name in ("train_source", "target_source", "seed")}
    more = [
        ids | {"method": "coda_aligned_dmso", "path": str(path)},
        ids | {"method": "oracle", "path": str(home)},
    ]
    found = score_predictions([*one, *more], plates, replicates=100)
    why = {"coda_aligned_dmso": "no DMSO", "oracle": "the oracle was trained on these plates"}
    for method, reason in why.items():
        rows = pick(found.metrics, method=method, split="adapted", **ids)
        assert len(rows) and rows["value"].isna().all() and rows["low"].isna().all()
        assert set(rows["reason"]) == {reason}
        rest = pick(found.metrics, method=method, split="held_out", metric="accuracy", **ids)
        assert rest["value"].notna().all()
        assert len(pick(found.metrics, method=method, split="held_out", metric="gap_closed", **ids))
    whole = pick(found.metrics, method="coda", split="adapted", metric="accuracy", level="image")
    assert whole["value"].notna().all()


def test_no_share_of_a_gap_without_its_interval(tmp_path):
    """Ends that differ by less than their own uncertainty: a gap in the value, none in many resamples."""
    files, plates = write_world(tmp_path, skill=SKILL | {"in_domain": 1.2, "unadapted": 1.0})
    found = score_predictions(files, plates, replicates=100)
    for table in (found.metrics, found.summary):
        gaps = pick(table, metric="gap_closed")
        assert gaps["value"].isna().equals(gaps["low"].isna())
        unsure = gaps[gaps["reason"].fillna("").str.contains("smaller than its own uncertainty")]
        assert len(unsure) and unsure["value"].isna().all()
    cells = accuracy_frame(found.summary, "held_out")[GAP]
    assert "" in set(cells) and all("[" in cell for cell in cells if cell)
