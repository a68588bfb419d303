"""The supervised network learns what it finds in all wells of a compound, and no label; its classifier stays."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.checkpoints import read_header
from coda.training.compute import Compute, Machine
from coda.training.convolutional import Convolutional, batch_norms
from coda.training.networks import Supervised
from coda.training.supervised_consensus import adapt_to_consensus, plate_norm_consensus
from coda.training.views import centre_view
from harmonised_plates import rewritten, save_filters
from safetensors.torch import load_file
from small_training import SETTINGS, classify
from wide_plates import MODEL, SIZE, widened

COMPUTE = Compute(torch.device("cpu"), "fp32")
ADAPT = {"epochs": 2, "warmup_epochs": 0, "batch_size": 16, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def plates(tiny_plates, tmp_path_factory):
    return widened(tiny_plates, tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def trained(plates, tmp_path_factory):
    views = SETTINGS["views"] | {"global_size": SIZE}
    return classify(tmp_path_factory.mktemp("resnet"), plates, model=MODEL, views=views)["weights"]


def adapt(folder, plates, weights, open_crops=CropStore, balanced=True, **training):
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {"weights": str(folder / "w.safetensors"), "log": str(folder / "log.parquet")}
    settings = {
        "model": MODEL,
        "views": SETTINGS["views"] | {"global_size": SIZE},
        "depth": None,
        "wells": "treated",
        "training": ADAPT | training,
        "balanced": balanced,
    }
    adapt_to_consensus(
        plates, weights, outputs, settings, 1, Machine(0, 1), "test", open_crops=open_crops
    )
    return outputs


def test_the_consensus_is_the_mean_log_probability_with_the_norms_of_each_plate(plates):
    torch.manual_seed(0)
    network = Supervised(Convolutional("resnet18", 2), 3).eval()
    torch.nn.init.normal_(network.classifier.weight, std=0.5)
    store = CropStore(plates[:3])
    table = store.table
    rows = np.flatnonzero(table["Quality_ok"] & (table["Metadata_JCP2022"] != "JCP2022_000003"))
    found = plate_norm_consensus(
        store, rows, network, "test", size=SIZE, compute=COMPUTE, threads=1
    )
    spoken = torch.zeros(len(table), 3, dtype=torch.float64)
    for plate in table["Metadata_Plate"].unique():
        here = np.flatnonzero(table["Metadata_Plate"] == plate)
        views = centre_view(torch.from_numpy(store.gather(here)), SIZE)
        good = table["Quality_ok"].to_numpy(bool)[here]
        for norm in batch_norms(network):
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        with torch.no_grad():
            network(views[good])
            network.eval()
            spoken[here] = F.log_softmax(network(views), dim=-1).double()
    for number, row in table.iterrows():
        members = (table["Metadata_JCP2022"] == row["Metadata_JCP2022"]).to_numpy()
        members = members & np.isin(np.arange(len(table)), rows)
        if row["Metadata_pert_type"] == "negcon" or number not in rows:
            assert found[number].abs().sum() == 0
        else:
            wanted = spoken[members].mean(dim=0).softmax(dim=0).float()
            torch.testing.assert_close(found[number], wanted, rtol=1e-3, atol=1e-4)


def test_an_adaptation_approaches_the_consensus_and_leaves_the_classifier(
    plates, trained, tmp_path
):
    outputs = adapt(tmp_path, plates[1:3], trained, epochs=6)
    before, after = load_file(trained), load_file(outputs["weights"])
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved and not any(name.startswith("classifier") for name in moved)
    log = pd.read_parquet(outputs["log"])
    assert len(log) == 6 and log["loss"].iloc[-1] < log["loss"].iloc[0]
    headers = [read_header(path) for path in (trained, outputs["weights"])]
    for name in ("classes", "channels", "proportions"):
        assert headers[0][name] == headers[1][name]


def test_labels_of_the_target_change_nothing_by_a_bit(plates, trained, tmp_path):
    def other(row, pixels):
        return row | {"Metadata_moa": row["Metadata_moa"] and "noise"}, pixels

    noise = [rewritten(path, tmp_path / f"{n}.arrow", other) for n, path in enumerate(plates[1:3])]
    found = []
    for number, own in enumerate((plates[1:3], noise)):
        filters = save_filters(own, [plates[0]], tmp_path / f"filters_{number}.parquet")
        opened = partial(HarmonisedStore, filters=filters)
        outputs = adapt(tmp_path / str(number), own, trained, opened, epochs=1)
        found.append(load_file(outputs["weights"]))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_balance_makes_a_difference_and_a_second_run_the_same(plates, trained, tmp_path):
    weights = [
        load_file(
            adapt(tmp_path / name, plates[1:2], trained, balanced=balanced, epochs=1)["weights"]
        )
        for name, balanced in (("a", True), ("b", True), ("c", False))
    ]
    names = [name for name in weights[0] if name.endswith("weight")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in names)
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in names)


def test_a_target_without_compounds_is_told(plates, trained, tmp_path):
    def control(row, pixels):
        return row | {"Metadata_pert_type": "negcon"}, pixels

    controls = rewritten(plates[1], tmp_path / "controls.arrow", control)
    with pytest.raises(UserError, match="No site is left to train on"):
        adapt(tmp_path, [controls], trained)
    store = CropStore([controls])
    network = Supervised(Convolutional("resnet18", 2), 3).eval()
    with pytest.raises(UserError, match="no site of good quality with a compound"):
        plate_norm_consensus(
            store, np.arange(len(store)), network, "test", size=SIZE, compute=COMPUTE, threads=1
        )
