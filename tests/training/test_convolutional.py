"""The convolutional baseline: its batch norms take the statistics of each plate, and nothing else of it changes."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.predict import Pipeline, predict_sites
from coda.training import convolutional
from coda.training.classifier_trainer import ClassifierLearner
from coda.training.compute import Compute, Machine
from coda.training.convolutional import Convolutional, batch_norms, with_plate_norms
from coda.training.networks import Supervised
from coda.training.plate_batches import CONTEXT, NO_CLASS, PlateBatches
from coda.training.settings import TaskSettings, ViewSettings
from coda.training.site_selection import labelled_rows
from coda.training.views import centre_view
from harmonised_plates import rewritten
from small_training import SETTINGS, classify
from wide_plates import MODEL, SIZE, widened

COMPUTE = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def plates(tiny_plates, tmp_path_factory):
    return widened(tiny_plates, tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def trained(plates, tmp_path_factory):
    views = SETTINGS["views"] | {"global_size": SIZE}
    return classify(tmp_path_factory.mktemp("resnet"), plates, model=MODEL, views=views)["weights"]


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = Supervised(Convolutional("resnet18", 2), 4).eval()
    for norm in batch_norms(made):  # as after a training on other images
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return made


def predicted(plates, weights, **how):
    settings = {"model": SETTINGS["model"], "image_size": SIZE, "supervised": {"model": MODEL}}
    pipelines = {"one": Pipeline(weights, **how)}
    return dict(predict_sites(plates, pipelines, settings, Machine(0, 1), "test"))["one"]


def by_hand(network, views, good):
    """Features in float64: statistics of good views, layer after layer, then the network with these."""
    exact, noted = deepcopy(network.foundation.network).double(), {}

    def note(norm, inputs, output):
        (seen,) = inputs
        mean = seen.mean((0, 2, 3), keepdim=True)
        spread = seen.var((0, 2, 3), keepdim=True, unbiased=False)
        noted[norm] = mean.flatten(), seen.var((0, 2, 3), unbiased=True)
        scaled = (seen - mean) / torch.sqrt(spread + norm.eps)
        return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]

    hooks = [norm.register_forward_hook(note) for norm in batch_norms(exact)]
    with torch.no_grad():
        exact(views[good].double())
        for hook in hooks:
            hook.remove()
        for norm, (mean, variance) in noted.items():
            norm.running_mean, norm.running_var = mean, variance
        return exact(views.double()).numpy()


def test_statistics_of_one_part_are_those_of_all_sites_of_the_plate(plates, network):
    store = CropStore(plates[:1])
    views = centre_view(torch.from_numpy(store.gather(np.arange(len(store)))), SIZE)
    good = store.table["Quality_ok"].to_numpy(bool)
    assert not good.all()
    ((rows, adapted),) = with_plate_norms(network, store, SIZE, COMPUTE)
    with torch.no_grad():
        found = adapted.foundation.network(views).numpy()
    assert rows.tolist() == list(range(len(store)))
    assert found == pytest.approx(by_hand(network, views, good), abs=2e-4)


def test_the_network_stays_as_it_is_and_plates_do_not_touch_each_other(plates, network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    norms, kept = [], None
    for chosen in (plates[:2], plates[1:2]):
        for _, adapted in with_plate_norms(network, CropStore(chosen), SIZE, COMPUTE):
            norms.append([norm.running_mean.clone() for norm in batch_norms(adapted)])
            kept = adapted.state_dict()
    for first, second in zip(
        norms[1], norms[2], strict=True
    ):  # the second plate, after the first and alone
        assert torch.equal(first, second)
    assert not torch.equal(norms[0][0], norms[1][0])
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    weights = [name for name in before if "running_" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], kept[name]) for name in weights)


def test_many_parts_give_nearly_the_same_statistics_and_always_the_same(
    plates, network, monkeypatch
):
    store = CropStore(plates[:1])

    def means():
        ((_, adapted),) = with_plate_norms(network, store, SIZE, COMPUTE)
        return batch_norms(adapted)[0].running_mean.clone()

    whole = means()
    monkeypatch.setattr(convolutional, "SITES_AT_ONCE", 10)
    assert torch.equal(means(), means())
    # Of the first norm the mean of equal parts is the mean of all; 32 sites are not quite equal parts.
    assert torch.allclose(means(), whole, atol=0.02 * whole.abs().max())


@pytest.mark.parametrize("at_once", [10, 256])
def test_no_site_counts_twice_where_networks_are_compiled(plates, network, monkeypatch, at_once):
    monkeypatch.setattr(convolutional, "SITES_AT_ONCE", at_once)
    found = []
    for compute in (COMPUTE, Compute(torch.device("cpu"), "fp32", compile=True)):
        ((_, adapted),) = with_plate_norms(network, CropStore(plates[:1]), SIZE, compute)
        found.append(torch.cat([norm.running_mean for norm in batch_norms(adapted)]))
    assert torch.equal(*found)


def test_a_job_predicts_every_site_in_its_order(plates, trained):
    ours = plates[1:3]
    alone = [predicted([plate], trained, plate_norms=True) for plate in ours]
    together = predicted(ours, trained, plate_norms=True)
    pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True))
    plain = predicted(ours, trained)
    keys = [name for name in plain if name.startswith("Metadata_")]
    assert together[keys].equals(plain[keys]) and together.columns.equals(plain.columns)
    logits = [table.filter(like="Logit_").to_numpy() for table in (plain, together)]
    assert np.isfinite(logits).all() and not np.allclose(*logits, atol=1e-3)


def test_views_too_small_for_it_are_refused(tiny_plates, tmp_path):
    with pytest.raises(UserError, match="global_size is 32, too small for a convolutional network"):
        classify(tmp_path, tiny_plates, model=MODEL)


def test_labels_change_nothing(plates, trained, monkeypatch):
    wanted = predicted(plates[:1], trained, plate_norms=True).filter(like="Logit_")
    opened = CropStore.__init__

    def without_labels(self, *arguments, **more):
        opened(self, *arguments, **more)
        self.table["Metadata_moa"] = None

    monkeypatch.setattr(CropStore, "__init__", without_labels)
    assert predicted(plates[:1], trained, plate_norms=True).filter(like="Logit_").equals(wanted)


@pytest.mark.parametrize(
    ("name", "words"),
    [("vit_tiny_patch16_224", "no batch norms"), ("resnet-18", "cannot be built")],
)
def test_a_network_that_cannot_be_adapted_so_is_refused(name, words):
    with pytest.raises(UserError, match=words):
        Convolutional(name, 5)


def learner_of(batches, classifier=None):
    """A learner of some batches of five, for two epochs."""
    return ClassifierLearner(
        features=torch.nn.Identity(),
        classifier=classifier or torch.nn.Linear(2, 2),
        compute=COMPUTE,
        settings=TaskSettings(epochs=2, batch_size=5),
        seed=3,
        views=ViewSettings(**SETTINGS["views"] | {"global_size": SIZE}),
        sites_per_epoch=len(batches.sites),
        steps_per_epoch=batches.steps_per_epoch(5),
    )


def test_batches_are_of_one_plate_with_its_controls_and_show_every_site_once_an_epoch(plates):
    store = CropStore(plates[:3])
    classes = sorted(store.table["Metadata_moa"].dropna().unique())
    batches = PlateBatches(store, *labelled_rows(store.table, classes))
    learner = learner_of(batches)
    planned = list(batches.plan(learner))
    assert len(planned) == 2 * batches.steps_per_epoch(5) == learner.steps
    table, class_of = store.table, dict(zip(batches.sites, batches.classes, strict=True))
    for epoch in (planned[: len(planned) // 2], planned[len(planned) // 2 :]):
        shown = []
        for sites, (numbers, _) in epoch:
            rows = table.iloc[sites]
            assert rows["Metadata_Plate"].nunique() == 1
            named = numbers.numpy() != NO_CLASS
            assert (rows["Metadata_pert_type"][~named] == "negcon").all()
            assert rows["Quality_ok"].all() and (~named).sum() == CONTEXT
            assert [class_of[site] for site in sites[named]] == list(numbers[named])
            assert len(sites) == len(numbers) and 4 <= named.sum() <= 5  # none of a few left over
            shown += list(sites[named])
        assert sorted(shown) == sorted(batches.sites)
    learner.step = 3  # a training that goes on sees what it would have seen
    again = list(batches.plan(learner))
    assert len(again) == len(planned) - 3
    assert all((one[0] == other[0]).all() for one, other in zip(planned[3:], again, strict=True))


def test_plates_without_controls_are_learned_from_without_them(plates, tmp_path):
    def treated(row, pixels):
        return row | {"Metadata_pert_type": "trt"}, pixels

    store = CropStore([rewritten(plates[0], tmp_path / "p.arrow", treated)])
    classes = sorted(store.table["Metadata_moa"].dropna().unique())
    batches = PlateBatches(store, *labelled_rows(store.table, classes))
    assert [len(controls) for _, controls in batches.plates] == [0]


def test_the_epoch_is_judged_with_the_norms_of_each_plate(plates, network):
    store = CropStore(plates[:2])
    classes = sorted(store.table["Metadata_moa"].dropna().unique())
    batches = PlateBatches(store, *labelled_rows(store.table, classes))
    learner = learner_of(batches, classifier=network)
    named = np.empty(len(store), int)
    for rows, adapted in with_plate_norms(network, store, SIZE, COMPUTE):
        views = centre_view(torch.from_numpy(store.gather(rows)), SIZE)
        with torch.no_grad():
            named[rows] = adapted(views).argmax(dim=1).numpy()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = batches.accuracy(learner, threads=1)
    assert found == (named[batches.sites] == batches.classes).mean()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
