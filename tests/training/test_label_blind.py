"""No adaptation depends on the target's labels by a bit, harmonised or not; what has no filter is not harmonised."""

from functools import partial

import numpy as np
import pytest
import torch
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.methods import ADAPTATIONS, COMPOSED, Method
from coda.training.adaptation_data import data_settings
from coda.training.compute import Machine
from coda.training.tent import adapt_supervised
from harmonised_plates import blurred_lab, rewritten, save_filters
from safetensors.torch import load_file
from small_training import SETTINGS, classify, outputs_in, settings_with, train

ADAPTED = [made for made in COMPOSED.values() if made == Method(made.adaptation, harmonised=made.harmonised)
           and made.adaptation in ADAPTATIONS]  # fmt: skip


@pytest.fixture(scope="module")
def home(tiny_plates, tmp_path_factory):
    """Networks of a training source: its plates, foundation and supervised baseline."""
    folder = tmp_path_factory.mktemp("home")
    plates = [tiny_plates[0], tiny_plates[3]]
    train(folder, plates, settings_with(epochs=1))
    (folder / "supervised").mkdir()
    return (
        plates,
        outputs_in(folder)["networks"],
        classify(folder / "supervised", plates)["weights"],
    )


@pytest.fixture(scope="module")
def labs(tiny_plates, home, tmp_path_factory):
    """Plates of two batches of a target, with labels and with noise in their place, each with their filters."""
    folder, random = tmp_path_factory.mktemp("labs"), np.random.default_rng(5)

    def noisy(row, pixels):
        labelled = isinstance(row["Metadata_moa"], str)
        label = f"noise {random.integers(10**6)}" if labelled else None
        return row | {"Metadata_moa": label}, pixels

    (folder / "true").mkdir()
    (folder / "noise").mkdir()
    true = blurred_lab(tiny_plates[1:3], folder / "true")
    noise = [rewritten(path, folder / "noise" / f"{n}.arrow", noisy) for n, path in enumerate(true)]
    labels = [CropStore(plates).table["Metadata_moa"] for plates in (true, noise)]
    assert (labels[0].isna() == labels[1].isna()).all() and not set(labels[0]) & set(
        labels[1].dropna()
    )
    return [
        (plates, save_filters(plates, home[0], folder / f"{name}.parquet"))
        for name, plates in (("true", true), ("noise", noise))
    ]


def opener(filters, harmonised):
    return partial(HarmonisedStore, filters=filters) if harmonised else CropStore


def adapt(folder, plates, filters, home, made, **changes):
    """Adapt as a method does, and give the weights."""
    folder.mkdir(parents=True)
    settings = settings_with(epochs=1)
    settings["data"] = data_settings(made.adaptation, SETTINGS["data"])
    again = made.adaptation in ("coda_labs", "coda_replay")
    options = dict(start=home[1], validation=(), home=home[0] if again else ())
    options |= dict(open_crops=opener(filters, made.harmonised))
    train(folder, [*plates, ""], settings, **options | changes)
    return load_file(outputs_in(folder)["networks"])


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("made", ADAPTED, ids=lambda made: made.name)
def test_an_adaptation_to_noise_in_place_of_labels_gives_the_same_weights(
    labs, home, tmp_path, made
):
    one, two = (adapt(tmp_path / str(number), *lab, home, made) for number, lab in enumerate(labs))
    assert same(one, two) and not same(one, load_file(home[1]))
    plain = adapt(tmp_path / "plain", *labs[0], home, Method(made.adaptation))
    assert same(one, plain) != made.harmonised


@pytest.mark.parametrize("harmonised", [False, True])
def test_neither_do_weights_that_tent_adapts(labs, home, tmp_path, harmonised):
    settings = {
        "model": {name: SETTINGS["model"][name] for name in ("architecture", "options")},
        "image_size": SETTINGS["views"]["global_size"],
        "depth": None,
        "wells": "labelled",
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1},
    }
    adapted = []
    for number, (plates, filters) in enumerate(labs):
        outputs = {
            "weights": str(tmp_path / f"{number}.safetensors"),
            "log": str(tmp_path / "log.parquet"),
        }
        given = plates, home[2], outputs, settings, 1, Machine(0, 1), "test"
        adapt_supervised(*given, open_crops=opener(filters, harmonised))
        adapted.append(load_file(outputs["weights"]))
    assert same(*adapted) and not same(adapted[0], load_file(home[2]))


def test_crops_without_a_filter_train_as_if_nothing_was_harmonised(labs, home, tmp_path):
    """As float32, too: grey values of 8 bits are the same numbers."""
    (plates, filters), made = labs[0], Method("coda")
    plain = adapt(tmp_path / "plain", home[0], filters, home, made)
    open_crops = opener(filters, True)
    assert same(
        plain, adapt(tmp_path / "open", home[0], filters, home, made, open_crops=open_crops)
    )
    harmonised = adapt(tmp_path / "filtered", plates, filters, home, made, open_crops=open_crops)
    assert not same(harmonised, adapt(tmp_path / "unfiltered", plates, filters, home, made))


@pytest.mark.parametrize("reference", ["controls", "shrunken"])
def test_filters_are_the_same_with_noise_in_place_of_labels(labs, home, tmp_path, reference):
    files = [
        save_filters(plates, home[0], tmp_path / f"{number}.parquet", reference=reference)
        for number, (plates, _) in enumerate(labs)
    ]
    one, two = (HarmonisedStore(labs[0][0], path)._harmonisations for path in files)
    assert all(np.array_equal(one[plate].gain, two[plate].gain) for plate in one)
