"""Rivals of the study: each on a case whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.training.compute import Machine
from harmonised_plates import blurred_lab, save_filters
from real import write_turned
from rivals import (
    build_resnet,
    coral,
    coral_by_controls,
    deep_coral_loss,
    harmony,
    information_loss,
    logits_by_batch_norms,
    norms_of_batch,
    pseudo_labels,
    standardised,
)
from torch import nn

RANDOM = np.random.default_rng(0)


def mixed(rows: int, width: int = 5) -> np.ndarray:
    """Correlated features with a mean of their own."""
    return RANDOM.normal(size=(rows, width)) @ RANDOM.normal(size=(width, width)) + 3.0


def test_coral_without_ridge_gives_exactly_the_other_covariance():
    one, other = mixed(200), mixed(150)
    mapped = coral(one, other, ridge=0.0)
    assert np.cov(mapped, rowvar=False) == pytest.approx(np.cov(standardised(other), rowvar=False))
    assert mapped.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-12)
    assert coral(one, one) == pytest.approx(standardised(one))


def sites(embedding: np.ndarray, plate: str, controls: int) -> pd.DataFrame:
    kinds = ["negcon"] * controls + ["trt"] * (len(embedding) - controls)
    return pd.DataFrame(
        {
            "Metadata_Source": "source_1",
            "Metadata_Plate": plate,
            "Metadata_pert_type": kinds,
            "Embedding": list(embedding),
        }
    )


def test_coral_by_controls_undoes_an_affine_map_of_a_plate_whatever_else_stands_on_it():
    home = RANDOM.normal(size=(40_000, 3)) @ np.diag([1.0, 2.0, 0.5])
    training = sites(home, "home", len(home))
    stretch = np.diag([3.0, 0.5, 1.0])
    treated = home[:50] + 7.0
    away = np.concatenate([home, treated]) @ stretch - 2.0
    target = sites(away, "away", len(home))
    mapped = coral_by_controls(target, training)
    assert mapped[:-50] == pytest.approx(home, abs=0.05)
    assert mapped[-50:] == pytest.approx(treated, abs=0.2)


def test_harmony_mixes_labs_that_an_offset_separates():
    groups = np.repeat([0, 1], 100)
    values = np.concatenate([RANDOM.normal(8 * group, 1, (100, 4)) for group in (0, 1)])
    labs = np.where(RANDOM.random(200) < 0.5, "a", "b")
    values[labs == "b"] += 5.0

    def apart(features):
        return max(
            np.linalg.norm(
                features[(groups == group) & (labs == "a")].mean(axis=0)
                - features[(groups == group) & (labs == "b")].mean(axis=0)
            )
            for group in (0, 1)
        )

    assert apart(harmony(values, labs)) < 0.3 * apart(standardised(values))


def test_norms_of_a_batch_are_those_that_are_recomputed_by_hand_and_leave_no_trace():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU()).eval()
    images = torch.randn(8, 2, 5, 5) * 4 + 1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = network(images)
    with norms_of_batch(network):
        found = network(images)
    filtered = network[0](images).double()
    mean = filtered.mean(dim=(0, 2, 3), keepdim=True)
    variance = filtered.var(dim=(0, 2, 3), keepdim=True, correction=0)
    assert torch.allclose(
        found.double(), ((filtered - mean) / (variance + 1e-5).sqrt()).relu(), atol=1e-5
    )
    assert torch.equal(network(images), trained)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_norms_are_those_of_a_plate_as_its_store_brings_it_to_the_device(tiny_plates, tmp_path):
    plates = blurred_lab(tiny_plates[2:], tmp_path)
    filters = save_filters(plates, tiny_plates[:2], tmp_path / "filters.parquet")
    store = HarmonisedStore(plates, filters)
    channels = len(store.channels)
    network = nn.Sequential(nn.Conv2d(channels, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveMaxPool2d(1))
    network.append(nn.Flatten()).num_classes = 2
    compute = Machine(precision="fp32").compute()
    found = logits_by_batch_norms(network, store, store.height, compute, own_statistics=True)
    one = np.flatnonzero(store.table["Metadata_Plate"] == store.table["Metadata_Plate"].iloc[0])
    images = store.on_device(torch.from_numpy(store.gather(one)), one).double()
    deviation, mean = torch.std_mean(images, dim=(2, 3), keepdim=True, correction=0)
    filtered = network[0].double()((images - mean) / deviation)
    deviation, mean = torch.std_mean(filtered, dim=(0, 2, 3), keepdim=True, correction=0)
    wanted = ((filtered - mean) / deviation).amax(dim=(2, 3))
    assert torch.allclose(found[torch.from_numpy(one)].double(), wanted, atol=1e-3)


def test_turned_crops_show_every_crop_twice_and_all_classes_as_often(tiny_plates, tmp_path):
    store = CropStore(tiny_plates[:1])
    write_turned(store, tmp_path / "turned.arrow")
    turned = CropStore([tmp_path / "turned.arrow"])
    for row in (0, 2, len(turned) - 2):
        assert np.array_equal(np.rot90(turned.view(row), axes=(1, 2)), turned.view(row + 1))
    before, after = (each.table["Metadata_moa"].value_counts() for each in (store, turned))
    assert (after == 2 * before.max()).all() and set(after.index) == set(before.index)
    keys = ["Metadata_Well", "Metadata_Site"]
    assert set(map(tuple, turned.table[keys].to_numpy())) == set(
        map(tuple, store.table[keys].to_numpy())
    )


def test_all_norms_of_the_resnet_are_reached():
    network = build_resnet(5, 3)
    norms = [each for each in network.modules() if "norm" in type(each).__name__.lower()]
    assert {id(each) for each in norms} == {id(each) for each in norms_of_batch(network).norms}
    assert len(norms) == 20


def test_information_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [0.0, 1.0, 0.0]])
    shares = np.exp(logits.double().numpy())
    shares /= shares.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)
    wanted = -(shares * np.log(shares)).sum(axis=1).mean() + (mean * np.log(mean)).sum()
    assert float(information_loss(logits)) == pytest.approx(wanted, abs=1e-6)
    sure = torch.eye(3) * 1000
    assert float(information_loss(sure)) == pytest.approx(-np.log(3), abs=1e-6)


def test_pseudo_labels_follow_the_clusters_where_predictions_are_mistaken():
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(20, dim=0)
    features = directions + 0.05 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    probabilities = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).repeat_interleave(20, dim=0)
    probabilities[:5] = probabilities[:5].flip(1)
    labels = pseudo_labels(features, probabilities)
    assert labels.tolist() == [0] * 20 + [1] * 20


def test_deep_coral_loss_by_hand():
    one, other = mixed(30, 4), mixed(20, 4)
    difference = np.cov(one, rowvar=False) - np.cov(other, rowvar=False)
    wanted = (difference**2).sum() / (4 * 16)
    found = deep_coral_loss(torch.from_numpy(one), torch.from_numpy(other))
    assert float(found) == pytest.approx(wanted, rel=1e-4)
    assert float(deep_coral_loss(torch.from_numpy(one), torch.from_numpy(one))) == 0
