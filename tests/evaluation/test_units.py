"""Scores against scikit-learn in float64, a second implementation that shares no line with ours."""

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.metrics import METRICS, score
from coda.evaluation.units import classes_of, read_predictions, units
from coda.files import write_table
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions import make_predictions
from sklearn import metrics as sk


def by_sklearn(table, classes, level):
    rows = table[table["Metadata_moa"].notna()]
    columns = [f"Logit_{name}" for name in classes]
    rows = rows.astype(dict.fromkeys(columns, np.float64))
    if level != "image":
        rows = rows.groupby(
            ["Metadata_Plate", "Metadata_Well", "Metadata_JCP2022", "Metadata_moa"]
        )[columns].mean()
        rows = rows.reset_index()
    if level == "compound":
        rows = rows.groupby(["Metadata_JCP2022", "Metadata_moa"])[columns].mean().reset_index()
    truth = rows["Metadata_moa"].map(classes.index).to_numpy()
    logits = rows[columns].to_numpy()
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    guess = logits.argmax(axis=1)
    macro = {"average": "macro", "labels": range(len(classes)), "zero_division": 0}
    error = 0.0
    for step in range(15):  # expected calibration error, written out bin by bin
        inside = (chances.max(axis=1) > step / 15) & (chances.max(axis=1) <= (step + 1) / 15)
        if inside.any():
            right = (guess[inside] == truth[inside]).mean()
            error += inside.mean() * abs(chances.max(axis=1)[inside].mean() - right)
    return {
        "accuracy": sk.accuracy_score(truth, guess),
        "macro_precision": sk.precision_score(truth, guess, **macro),
        "macro_recall": sk.recall_score(truth, guess, **macro),
        "macro_f1": sk.f1_score(truth, guess, **macro),
        "kappa": sk.cohen_kappa_score(truth, guess),
        "quadratic_kappa": sk.cohen_kappa_score(
            truth, guess, weights="quadratic", labels=range(len(classes))
        ),
        "macro_auc": sk.roc_auc_score(truth, chances, multi_class="ovo", average="macro"),
        "calibration_error": error,
    }


@pytest.mark.parametrize("level", ["image", "well", "compound"])
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), classes=st.integers(3, 7), skill=st.floats(0, 3))
def test_metrics_agree_with_scikit_learn(level, seed, classes, skill):
    table = make_predictions(seed, classes, skill=skill).sample(frac=1, random_state=seed)
    names = classes_of(table)
    expected = by_sklearn(table, names, level)
    found = score(table, names, level)
    assert list(found) == list(METRICS)
    for metric, value in expected.items():
        assert found[metric].value == pytest.approx(value, abs=1e-12), metric


def test_ties_count_half_in_the_area():
    table = make_predictions(classes=3)
    logits = [name for name in table if name.startswith("Logit_")]
    table[logits] = np.float32(0)
    assert score(table, classes_of(table))["macro_auc"].value == 0.5


def test_unlabelled_rows_never_count():
    table = make_predictions()
    without = table[table["Metadata_moa"].notna()]
    assert score(table, classes_of(table)) == score(without, classes_of(table))
    nothing = score(table[table["Metadata_moa"].isna()], classes_of(table))
    assert all(
        np.isnan(value) and reason == "no labelled images" for value, reason in nothing.values()
    )


def test_an_absent_class_leaves_class_means_undefined_and_says_so():
    table = make_predictions()
    found = score(table[table["Metadata_moa"] != "moa 2"], classes_of(table))
    for metric in ("macro_precision", "macro_recall", "macro_f1", "macro_auc"):
        assert np.isnan(found[metric].value)
        assert found[metric].reason == "no example of moa 2"
    assert found["accuracy"].reason is None
    assert 0 <= found["accuracy"].value <= 1


def test_kappa_of_a_single_class_is_undefined():
    table = make_predictions()
    table = table[table["Metadata_moa"] == "moa 0"].assign(**{"Logit_moa 0": np.float32(50)})
    kappa = score(table, classes_of(table))["kappa"]
    assert np.isnan(kappa.value)
    assert kappa.reason


def test_precision_tells_of_classes_never_predicted():
    table = make_predictions().assign(**{"Logit_moa 1": np.float32(-50)})
    assert (
        "1 class(es) never predicted" in score(table, classes_of(table))["macro_precision"].reason
    )


def test_units_are_wells_within_plates_and_compounds():
    table = make_predictions(compounds=2, plates=("P1", "P2", "P3"))
    wells = units(table, classes_of(table), "image").resampled
    assert len(wells) == 8 * 3
    assert set(wells["stratum"]) == {"source_1/P1", "source_1/P2", "source_1/P3"}
    assert len(units(table, classes_of(table), "well")) == 8 * 3
    compounds = units(table, classes_of(table), "compound")
    assert len(compounds) == 8 == len(compounds.resampled)


def test_a_well_with_many_sites_weighs_no_more_in_its_compound():
    table = make_predictions(classes=3, compounds=1, plates=("P1", "P2"))
    lost = table[(table["Metadata_Plate"] == "P1") | (table["Metadata_Site"] == 0)]
    found = units(lost, classes_of(table), "compound").probabilities[0]
    logits = [f"Logit_{name}" for name in classes_of(table)]
    first = lost[lost["Metadata_JCP2022"] == "JCP_0"].astype(dict.fromkeys(logits, float))
    mean = first.groupby("Metadata_Plate")[logits].mean().mean().to_numpy()
    assert found == pytest.approx(np.exp(mean) / np.exp(mean).sum(), abs=1e-12)


def test_bad_predictions_are_refused():
    table = make_predictions()
    with pytest.raises(UserError, match="no logits for the label"):
        score(table, classes_of(table)[:-1])
    table.loc[0, "Logit_moa 1"] = np.nan
    with pytest.raises(UserError, match="not a finite number"):
        score(table, classes_of(table))


def test_cells_of_a_site_are_averaged_to_one_image(tmp_path):
    table = make_predictions(classes=3)
    table["Embedding"] = list(np.arange(2 * len(table), dtype=np.float32).reshape(-1, 2))
    table.insert(5, "Metadata_Batch", "B1")
    extra = table.iloc[:5].assign(**{"Logit_moa 1": np.float32(3)})
    write_table(pd.concat([table, extra], ignore_index=True), tmp_path / "cells.parquet")
    found = read_predictions(tmp_path / "cells.parquet", embeddings=True)
    assert found["Metadata_Well"].tolist() == table["Metadata_Well"].tolist()
    assert found["Logit_moa 1"][:5].to_numpy() == pytest.approx((table["Logit_moa 1"][:5] + 3) / 2)
    assert (found["Logit_moa 0"] == table["Logit_moa 0"]).all()
    assert np.array_equal(np.stack(list(found["Embedding"])), np.stack(list(table["Embedding"])))
    assert found["Metadata_moa"].isna().tolist() == table["Metadata_moa"].isna().tolist()


def test_reading_leaves_out_embeddings_and_refuses_faults(tmp_path):
    table = make_predictions()
    table["Embedding"] = [np.zeros(3, np.float32)] * len(table)
    path = tmp_path / "predictions.parquet"
    write_table(table, path)
    assert "Embedding" not in read_predictions(path)
    assert len(read_predictions(path, embeddings=True)["Embedding"][0]) == 3
    write_table(table.drop(columns="Metadata_moa"), path)
    with pytest.raises(UserError, match="Metadata_moa"):
        read_predictions(path)
    path.write_bytes(b"no table")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(path)
