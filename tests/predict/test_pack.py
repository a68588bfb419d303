"""A pack written from a finished small training, and used from Python on plates of another lab."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from coda.crops.harmonisation import bin_width, measure_spectra, save_spectra
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.predict import Pipeline, predict_sites
from coda.files import write_table
from coda.predict.pack import CROPS_OF_COMPOUND, CROPS_OF_CONTROLS, Pack, shrunk, write_pack
from coda.predict.pack_files import FILES, zip_pack
from coda.predict.trust import trust
from coda.training.alignment import measure_tokens
from coda.training.compute import Machine
from harmonised_plates import blurred_lab, rewritten
from places import ROOT
from small_training import SETTINGS, classify, outputs_in, train

CPU = Machine(0, 1, "fp32")
MODEL = {key: SETTINGS["model"][key] for key in ("architecture", "options")}
PACK_SETTINGS = {
    "channels": ["DNA", "ER"],
    "crops": {"kind": "centre", "size": 48},
    "model": MODEL,
    "head": SETTINGS["head"],
    "views": SETTINGS["views"],
    "classify": {"depth": None},
    "adapt": SETTINGS["training"],
    "data": SETTINGS["data"],
    "harmonise": {"reference": "dmso"},
}


def named(paths, folder):
    """The plates with names of their compounds, as crops of the workflow have them."""
    folder.mkdir()

    def change(row, pixels):
        return row | {"Metadata_pert_iname": "drug " + row["Metadata_JCP2022"][-1]}, pixels

    return [rewritten(path, folder / path.rsplit("/", 1)[1], change) for path in paths]


@pytest.fixture(scope="module")
def plates(tiny_plates, tmp_path_factory):
    return named(tiny_plates, tmp_path_factory.mktemp("named") / "crops")


@pytest.fixture(scope="module")
def pack_folder(plates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    train(folder / "train", plates)
    files = {key: outputs_in(folder / "train")[key] for key in ("foundation", "networks")}
    files["task_model"] = classify(folder / "task", plates, files["foundation"])["weights"]
    for name in ("tokens", "spectra", "embeddings", "calibration"):
        files[name] = str(folder / f"{name}.{'safetensors' if name == 'tokens' else 'parquet'}")
    size = SETTINGS["views"]["global_size"]
    measure_tokens(
        plates[:-1], files["foundation"],
        {"statistics": files["tokens"], "embeddings": files["embeddings"]},
        {"model": MODEL, "image_size": size}, CPU, "test",
    )  # fmt: skip
    width = bin_width([1.0], 48)
    save_spectra([measure_spectra(CropStore([plate]), width) for plate in plates], files["spectra"])
    home = Pipeline(files["task_model"], None, files["foundation"])
    settings = {"model": MODEL, "image_size": size}
    ((_, table),) = predict_sites(plates, {"home": home}, settings, CPU, "test")
    write_table(table, files["calibration"])
    chosen = table[["Metadata_Source", "Metadata_Plate"]].drop_duplicates(ignore_index=True)
    chosen["subset"] = ["train"] * (len(plates) - 1) + ["validation"]
    write_table(chosen, folder / "plates.csv")
    what = {"source": "source_1", "seed": 1, "um_per_pixel": 1.0}
    made = folder / "seed_1"
    write_pack(files, plates[:-1], str(folder / "plates.csv"), PACK_SETTINGS, made, what)
    return made


@pytest.fixture(scope="module")
def target(plates, tmp_path_factory):
    """Two plates of a lab with a blurred microscope, without labels."""
    folder = tmp_path_factory.mktemp("target")
    blurred = blurred_lab(plates[:2], folder)
    unlabelled = folder / "unlabelled"
    unlabelled.mkdir()

    def change(row, pixels):
        return row | {"Metadata_moa": None}, pixels

    return [rewritten(path, unlabelled / path.rsplit("/", 1)[1], change) for path in blurred]


def test_a_pack_holds_what_calls_need(pack_folder, plates):
    pack = Pack.load(pack_folder)
    assert pack.classes == [f"moa {number}" for number in range(4)]
    assert not {path.suffix for path in pack_folder.iterdir()} - {
        ".json", ".parquet", ".safetensors", ".md",
    }  # fmt: skip
    held_out = pd.read_parquet(pack_folder / FILES["calibration"])
    assert set(held_out["Metadata_Plate"]) == {"b2p2"}
    compounds = pd.read_parquet(pack_folder / FILES["compounds"]).set_index("Metadata_JCP2022")
    sites = [CropStore(plates[:-1]).table]
    good = pd.concat(sites)[lambda rows: rows["Quality_ok"].to_numpy(bool)]
    assert sorted(compounds.index) == sorted(set(good["Metadata_JCP2022"]))
    wells = good.drop_duplicates(["Metadata_Plate", "Metadata_Well"])["Metadata_JCP2022"]
    assert compounds["Wells"].to_dict() == wells.value_counts().to_dict()
    small = pd.read_parquet(pack_folder / FILES["thumbnails"])
    counts = small.groupby("Metadata_pert_type")["Metadata_JCP2022"].value_counts()
    assert set(counts["trt"]) == {CROPS_OF_COMPOUND} and set(counts["negcon"]) == {
        CROPS_OF_CONTROLS
    }
    for row in small.itertuples():
        assert len(row.Pixels) == 2 * row.Side**2
    card = (pack_folder / "README.md").read_text()
    assert "source_1, seed 1" in card and "- moa 3" in card and "CC0" in card


def test_thumbnails_are_the_middle_of_the_crop_and_its_means():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 301, 277), dtype=np.uint8)
    small = shrunk(pixels)
    assert small.shape == (3, 128, 128) and small.dtype == np.uint8
    top, left = (301 - 256) // 2, (277 - 256) // 2
    block = pixels[1, top + 20 : top + 22, left + 6 : left + 8].astype(float)
    assert small[1, 10, 3] == np.round(block.mean())
    assert np.array_equal(shrunk(pixels[:, :48, :48]), pixels[:, :48, :48])


def test_the_pack_predicts_what_the_workflow_predicts(pack_folder, plates):
    """On the held-out plate, without harmonisation or alignment."""
    found = Pack.load(pack_folder).predict(plates[-1:], images="raw", alignment=None, machine=CPU)
    kept = pd.read_parquet(pack_folder / FILES["calibration"])
    logits = [name for name in kept if name.startswith("Logit_")]
    np.testing.assert_allclose(found[logits], kept[logits], rtol=1e-4, atol=1e-5)


def test_a_zip_adapts_and_predicts_plates_without_labels(pack_folder, target, tmp_path):
    zip_pack(pack_folder, tmp_path / "pack.zip")
    pack = Pack.load(tmp_path / "pack.zip", tmp_path / "unpacked")
    before = pack.predict(target, machine=CPU)
    adapted = pack.adapt(target, tmp_path / "adapted", machine=CPU, epochs=1)
    after = adapted.predict(target, machine=CPU)
    logits = [f"Logit_{name}" for name in pack.classes]
    assert len(before) == len(after) == 64 and np.isfinite(after[logits]).all(axis=None)
    assert not np.allclose(before[logits], after[logits])
    assert pack.foundation.read_bytes() != adapted.foundation.read_bytes()
    # The task model and all else are the pack's, which stays as it was.
    assert adapted.folder == pack.folder and Pack.load(pack.folder).foundation == pack.foundation
    log = pd.read_parquet(tmp_path / "adapted/adaptation.parquet")
    assert len(log)


def test_one_plate_without_controls_is_adapted_and_called_but_not_aligned(
    pack_folder, target, tmp_path
):
    def change(row, pixels):
        name = "other" if row["Metadata_pert_type"] == "negcon" else row["Metadata_JCP2022"]
        return row | {"Metadata_pert_type": "trt", "Metadata_JCP2022": name}, pixels

    plate = [rewritten(target[0], tmp_path / "plate.arrow", change)]
    pack = Pack.load(pack_folder)
    aligned = pack.predict(plate, machine=CPU)
    assert aligned.filter(like="Logit_").isna().all(axis=None)  # by controls that it does not have
    with pytest.raises(UserError, match="No site of the plates has a prediction"):
        pack.call(aligned)
    adapted = pack.adapt(plate, tmp_path / "adapted", machine=CPU, epochs=1)
    tables = {
        "unadapted": pack.predict(plate, images="raw", alignment=None, machine=CPU),
        "harmonised_coda": adapted.predict(plate, alignment=None, machine=CPU),
        "harmonised_coda_aligned_dmso": aligned,
    }
    told = trust(tables, pd.read_parquet(pack_folder / FILES["calibration"]))
    assert told["use"].tolist() == [False, True, False] and told["control_wells"].eq(0).all()
    assert told["reason"].iat[0].startswith("Nothing on these plates tells")
    assert "lack negative controls" in told["reason"].iat[0]
    calls = pack.call(tables["harmonised_coda"])
    compounds = calls[calls["level"] == "compound"]
    assert len(compounds) == 8 and (compounds["wells"] == 2).all()
    assert compounds[["agreement", "activity"]].isna().all(axis=None)


def test_crops_that_do_not_fit_are_refused(pack_folder, target, tmp_path):
    pack = Pack.load(pack_folder)
    said = json.loads((pack_folder / "pack.json").read_text())
    x = tmp_path / "x"
    for changes, words in (
        ({"channels": ["ER", "DNA"]}, "channels DNA, ER, but the pack reads ER, DNA"),
        ({"um_per_pixel": 0.3}, r"A pixel of .* is 1 um, too far from the 0.3 um"),
    ):
        other = Pack(pack.folder, said | changes, pack.foundation)
        with pytest.raises(UserError, match=words):
            other.predict(target)
        with pytest.raises(UserError, match=words):
            other.adapt(target, x)
    assert not x.exists()


def test_the_example_of_the_docs_runs(pack_folder, target, tmp_path, monkeypatch, capsys):
    """As it stands in docs/own-data.md, with the places of this test."""
    text = (ROOT / "docs/own-data.md").read_text()
    (code,) = re.findall(r"```python pack\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    places = {
        "results/demo/packs/source_5/seed_1": pack_folder,
        "results/mine/crops/my_lab/exp7.arrow": target[0],
    }
    for written, real in places.items():
        assert written in code
        code = code.replace(written, str(real))
    variables = {}
    exec(code, variables)  # noqa: S102 - the docs' own
    calls = variables["calls"]
    assert set(calls["level"]) == {"compound", "well"} and len(variables["adapted"].classes) == 4
