import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.predict import Pipeline, predict_sites
from coda.training.checkpoints import read_header
from coda.training.compute import Machine
from coda.training.site_selection import shuffle_labels
from coda.training.trainer import Means
from safetensors.torch import load_file
from small_training import SETTINGS, classify, outputs_in, train


def predict(plates, classifier, foundation=None):
    settings = {
        "model": SETTINGS["model"],
        "image_size": SETTINGS["views"]["global_size"],
    }
    pipelines = {"one": Pipeline(classifier, foundation=foundation)}
    return dict(predict_sites(plates, pipelines, settings, Machine(0, 1), "test"))["one"]


@pytest.fixture(scope="module")
def foundation(tiny_plates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foundation")
    train(folder, tiny_plates)
    return outputs_in(folder)["foundation"]


def test_the_task_model_learns_and_the_foundation_stays(tiny_plates, tmp_path, foundation):
    before = load_file(foundation)
    outputs = classify(tmp_path, tiny_plates, foundation, epochs=15)
    assert all(torch.equal(before[k], v) for k, v in load_file(foundation).items())
    log = pd.read_parquet(outputs["log"])
    assert log["validation_accuracy"].max() > 0.5  # four classes
    header = read_header(outputs["weights"])
    assert header["classes"] == [f"moa {n}" for n in range(4)]
    table = pd.concat([CropStore([path]).table for path in tiny_plates[:-1]])
    compounds = table.groupby("Metadata_moa")["Metadata_JCP2022"].nunique()
    assert header["proportions"] == pytest.approx((compounds / compounds.sum()).tolist())
    assert header["epoch"] == log.loc[log["validation_accuracy"].idxmax(), "epoch"]
    assert not any(
        name.startswith(("patch_embed", "pos_embed")) for name in load_file(outputs["weights"])
    )


def test_two_runs_are_equal_bit_for_bit(tiny_plates, tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, two = (load_file(classify(tmp_path / name, tiny_plates)["weights"]) for name in "ab")
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_the_reported_validation_accuracy_is_that_of_the_predictions(
    tiny_plates, tmp_path, foundation
):
    outputs = classify(tmp_path, tiny_plates, foundation)
    predictions = predict(tiny_plates[-1:], outputs["weights"], foundation)
    store = CropStore(tiny_plates[-1:])
    keep = store.table["Quality_ok"] & store.table["Metadata_moa"].notna()
    logits = predictions.filter(regex="^Logit_")
    named = logits.columns.str.removeprefix("Logit_")[logits.to_numpy().argmax(axis=1)]
    accuracy = (named[keep] == predictions["Metadata_moa"][keep]).mean()
    assert accuracy == pytest.approx(
        pd.read_parquet(outputs["log"])["validation_accuracy"].max(), abs=0.03
    )


def test_every_site_is_predicted_once_in_order(tiny_plates, tmp_path):
    outputs = classify(tmp_path, tiny_plates)
    predictions = predict(tiny_plates, outputs["weights"])
    table = CropStore(tiny_plates).table
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    pd.testing.assert_frame_equal(predictions[keys], table[keys])
    assert predictions["Metadata_moa"].isna().any()  # unlabelled sites are there too
    assert np.stack(predictions["Embedding"]).shape == (len(table), 32)
    again = predict(tiny_plates[1:2], outputs["weights"])
    part = (
        predictions[predictions["Metadata_Plate"] == "b1p2"]
        .filter(regex="^Logit_")
        .reset_index(drop=True)
    )
    assert np.allclose(part, again.filter(regex="^Logit_"), atol=2e-2)


def test_a_classifier_of_other_channels_is_refused(tiny_plates, tmp_path):
    from coda.training.checkpoints import save_weights

    outputs = classify(tmp_path, tiny_plates)
    header = {**read_header(outputs["weights"]), "channels": ["DNA", "Mito"]}
    save_weights(outputs["weights"], load_file(outputs["weights"]), header)
    with pytest.raises(UserError, match="Mito"):
        predict(tiny_plates, outputs["weights"])


def test_a_loss_that_is_no_number_stops_the_training(tiny_plates, tmp_path, monkeypatch):
    monkeypatch.setattr(Means, "take", lambda self: {"loss": float("nan")})
    with pytest.raises(UserError, match="nan in epoch 1; lower the learning rate"):
        classify(tmp_path, tiny_plates)


def test_the_log_has_all_that_is_watched(tiny_plates, tmp_path):
    log = pd.read_parquet(classify(tmp_path, tiny_plates)["log"])
    watched = ["loss", "learning_rate", "validation_accuracy", "samples_per_second"]
    watched += ["waiting_share", "memory_gib"]
    assert len(log) == 3 and np.isfinite(log[watched]).all(axis=None)


def test_a_class_without_a_good_site_is_named_before_the_training(tiny_plates, tmp_path):
    with pytest.raises(UserError, match=r"source_1 have no site.*\(kinase\).*choose.moas"):
        classify(tmp_path, tiny_plates, expected=["kinase"])


def test_nothing_labelled_is_told(tiny_plates, tmp_path, monkeypatch):
    import coda.training.classify

    nothing = np.empty(0, np.int64)
    monkeypatch.setattr(coda.training.classify, "labelled_rows", lambda *_: (nothing, nothing))
    with pytest.raises(UserError, match="no labelled sites"):
        classify(tmp_path, tiny_plates)


def test_shuffled_labels_keep_classes_and_the_wells_of_a_compound_together():
    compounds = [f"c{n}" for n in range(12)] + [None, "dmso"]
    moas = {f"c{n}": f"moa {n // 3}" for n in range(12)}
    wells = pd.DataFrame({"Metadata_JCP2022": compounds * 4})
    wells["Metadata_moa"] = wells["Metadata_JCP2022"].map(moas).astype(object)
    tables = [wells.iloc[:30], wells.iloc[30:]]
    shuffled = shuffle_labels(tables, seed=4)
    together = pd.concat(shuffled)
    per_compound = together.dropna().drop_duplicates()
    assert per_compound["Metadata_JCP2022"].is_unique and len(per_compound) == 12
    assert together["Metadata_moa"].value_counts().to_dict() == dict.fromkeys(
        set(moas.values()), 12
    )
    assert (together["Metadata_moa"].isna() == wells["Metadata_moa"].isna()).all()
    assert (together["Metadata_moa"] != wells["Metadata_moa"])[wells["Metadata_moa"].notna()].any()
    again = pd.concat(shuffle_labels(tables, seed=4))
    pd.testing.assert_frame_equal(together, again)
    assert not pd.concat(shuffle_labels(tables, seed=5)).equals(together)


def test_the_shuffled_control_learns_other_labels_than_the_task_model(
    tiny_plates, tmp_path, foundation
):
    made = []
    for name, shuffled in (("plain", False), ("shuffled", True)):
        (tmp_path / name).mkdir()
        made.append(classify(tmp_path / name, tiny_plates, foundation, shuffled=shuffled))
    assert read_header(made[0]["weights"])["classes"] == read_header(made[1]["weights"])["classes"]
    one, two = (load_file(outputs["weights"]) for outputs in made)
    assert not all(torch.equal(one[name], two[name]) for name in one)
