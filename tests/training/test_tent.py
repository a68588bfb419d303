"""TENT: the entropy falls, and nothing but gains and offsets of the norms moves."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.checkpoints import read_header, save_weights
from coda.training.compute import Compute, Machine
from coda.training.networks import Supervised, build_foundation
from coda.training.settings import ModelSettings, TentSettings
from coda.training.site_selection import usable_rows
from coda.training.tent import adapt_supervised, entropy, minimise_entropy, norm_parameters
from safetensors.torch import load_file
from small_training import SETTINGS

SIZE = SETTINGS["views"]["global_size"]
FAST = TentSettings(epochs=6, batch_size=16, learning_rate=0.01)


def network() -> Supervised:
    torch.manual_seed(0)
    model = Supervised(build_foundation(ModelSettings(**SETTINGS["model"]), 2, SIZE), 4)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    return model


def test_entropy_is_that_of_the_probabilities():
    even = torch.zeros(3, 8)
    assert entropy(even).item() == pytest.approx(math.log(8))
    p = np.array([0.7, 0.2, 0.1])
    logits = torch.tensor(np.log(p) + 5).float()[None]
    assert entropy(logits).item() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)


def test_the_norms_are_found_and_nothing_else():
    model = network()
    names = {
        name
        for name, p in model.named_parameters()
        if any(p is other for other in norm_parameters(model))
    }
    assert names == {n for n, _ in model.named_parameters() if ".norm" in n} and len(names) == 10


def test_entropy_falls_and_only_norms_move(tiny_plates):
    store, model = CropStore(tiny_plates[:2]), network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sites = usable_rows(store.table, "labelled")
    compute = Compute(torch.device("cpu"), "fp32")
    log = minimise_entropy(model, store, sites, SIZE, FAST, compute, seed=1)
    assert len(log) == 6 and log[-1]["loss"] < log[0]["loss"] - 0.05
    moved = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert moved and all(".norm" in name for name in moved)


def test_the_job_looks_at_no_label_and_gives_a_baseline(tiny_plates, tmp_path, monkeypatch):
    model = network()
    header = {"classes": list("abcd"), "channels": ["DNA", "ER"]}
    save_weights(tmp_path / "supervised.safetensors", model.state_dict(), header)
    settings = {
        "model": {k: SETTINGS["model"][k] for k in ("architecture", "options")},
        "image_size": SIZE,
        "depth": None,
        "wells": "all",
        "training": vars(FAST),
    }
    results = []
    for name in ("a", "b"):
        outputs = {
            "weights": str(tmp_path / f"{name}.safetensors"),
            "log": str(tmp_path / f"{name}.parquet"),
        }
        adapt_supervised(
            tiny_plates[:1],
            str(tmp_path / "supervised.safetensors"),
            outputs,
            settings,
            5,
            Machine(0, 1),
            "test",
        )
        results.append(load_file(outputs["weights"]))
        # The second time without labels.
        monkeypatch.setattr(
            "coda.training.tent.CropStore", lambda paths: unlabelled(CropStore(paths))
        )
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    made = read_header(tmp_path / "a.safetensors")
    assert made["classes"] == list("abcd") and made["channels"] == ["DNA", "ER"]
    assert len(pd.read_parquet(tmp_path / "a.parquet")) == 6


def unlabelled(store: CropStore) -> CropStore:
    store.table = store.table.assign(Metadata_moa=None)
    return store


def test_an_entropy_that_is_no_number_is_told(tiny_plates):
    store, model = CropStore(tiny_plates[:1]), network()
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    compute = Compute(torch.device("cpu"), "fp32")
    with pytest.raises(UserError, match="tent.learning_rate"):
        minimise_entropy(model, store, np.arange(8), SIZE, FAST, compute, seed=1)
