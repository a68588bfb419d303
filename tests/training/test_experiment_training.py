"""What an experiment keeps from a step cannot change it by a bit; the chain of plates goes on from its networks."""

import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.store import CropStore, CropWriter
from coda.evaluation.controls import position_control
from coda.evaluation.predict import Pipeline, predict_sites
from coda.files import write_table
from coda.provenance import file_checksum
from coda.training.adaptation_data import data_settings
from coda.training.alignment import measure_tokens
from coda.training.checkpoints import read_header
from coda.training.compute import Machine
from coda.training.dino_trainer import DinoLearner
from coda.training.site_selection import class_names, restrict
from safetensors.torch import load_file
from small_training import OFTEN, SETTINGS, classify, outputs_in, settings_with, train

HIDDEN = {"JCP2022_000002", "JCP2022_000004"}


@pytest.fixture(scope="module")
def blanked(tiny_plates, tmp_path_factory):
    """The plates again with other pixels in every crop of the hidden compounds, and the choice that hides them."""
    folder = tmp_path_factory.mktemp("blanked")
    plates = []
    for path in tiny_plates:
        store = CropStore([path])
        plates.append(str(folder / path.rsplit("/", 1)[1]))
        with CropWriter(plates[-1], store.channels, 48, 48, store.settings) as writer:
            for number, row in enumerate(store.table.to_dict("records")):
                pixels = store.gather([number])
                writer.write(row, 255 - pixels if row["Metadata_JCP2022"] in HIDDEN else pixels)
    table = CropStore(tiny_plates).table.dropna(subset="Metadata_moa")
    compounds = table.drop_duplicates("Metadata_JCP2022")[["Metadata_JCP2022", "Metadata_moa"]]
    role = np.where(compounds["Metadata_JCP2022"].isin(HIDDEN), "kept_out", "used")
    write_table(compounds.assign(role=role), folder / "choice.csv")
    return plates, str(folder / "choice.csv")


@pytest.fixture(scope="module")
def trained(tiny_plates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(folder, tiny_plates)
    return outputs_in(folder)


def same(one, two):
    one, two = load_file(one), load_file(two)
    return all(torch.equal(one[name], two[name]) for name in one)


def folders(tmp_path, *names):
    for name in names:
        (tmp_path / name).mkdir()
    return [tmp_path / name for name in names]


def test_the_classifier_does_not_depend_on_compounds_kept_from_it(
    tiny_plates, blanked, trained, tmp_path
):
    other, choice = blanked
    places = folders(tmp_path, "a", "b", "c")
    one, two = (
        classify(place, plates, trained["foundation"], choice=choice)
        for place, plates in zip(places, (tiny_plates, other), strict=False)
    )
    assert same(one["weights"], two["weights"])
    # The accuracy that chooses the epoch has not seen them either.
    pd.testing.assert_series_equal(
        *(pd.read_parquet(each["log"])["validation_accuracy"] for each in (one, two))
    )
    whole = classify(places[2], tiny_plates, trained["foundation"])
    assert not same(one["weights"], whole["weights"])


def test_adaptation_and_alignment_do_not_depend_on_mechanisms_that_are_not_there(
    tiny_plates, blanked, trained, tmp_path
):
    other, choice = blanked
    places = folders(tmp_path, "a", "b", "c")
    options = dict(validation=(), start=trained["networks"])
    for place, plates, each in zip(
        places, (tiny_plates, other, tiny_plates), (choice, choice, None), strict=True
    ):
        train(place, plates, choice=each, **options)
    one, two, whole = (outputs_in(place)["foundation"] for place in places)
    assert same(one, two) and not same(one, whole)

    model = {name: SETTINGS["model"][name] for name in ("architecture", "options")}
    settings = {
        "model": model,
        "image_size": SETTINGS["views"]["global_size"],
    }
    statistics = str(tmp_path / "tokens.safetensors")
    weights = classify(places[0], tiny_plates, trained["foundation"])["weights"]
    measured = {"statistics": statistics, "embeddings": str(tmp_path / "embeddings.parquet")}
    measure_tokens(
        tiny_plates[:-1], trained["foundation"], measured, settings, Machine(0, 1), "test"
    )
    pipelines = {"aligned": Pipeline(weights, foundation=one, alignment="all")}
    aligned = [
        table
        for plates, each in ((tiny_plates, choice), (other, choice), (tiny_plates, None))
        for _, table in predict_sites(
            plates, pipelines, settings, Machine(0, 1), "test", statistics, each
        )
    ]
    seen = aligned[0]["Metadata_moa"].notna()
    logits = [table.filter(regex="^Logit_")[seen].to_numpy() for table in aligned]
    assert not set(aligned[0]["Metadata_JCP2022"][seen]) & HIDDEN
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 1e-4


def test_a_replay_still_sees_all_mechanisms_of_the_training_source(
    tiny_plates, blanked, trained, tmp_path
):
    """Half of them is what there is on the target; other pixels in the hidden wells at home change the result."""
    other, choice = blanked
    settings = settings_with(epochs=1)
    settings["data"] = data_settings("coda_replay", settings["data"])
    places = folders(tmp_path, "a", "b", "c")
    for place, plates, home in zip(
        places,
        (tiny_plates, other, tiny_plates),
        (tiny_plates[:1], tiny_plates[:1], other[:1]),
        strict=True,
    ):
        given = dict(validation=(), start=trained["networks"], home=home, choice=choice)
        train(place, plates, settings, **given)
    one, two, three = (outputs_in(place)["foundation"] for place in places)
    assert same(one, two) and not same(one, three)


def test_position_is_right_about_known_compounds_and_guesses_about_new_ones(tiny_plates, blanked):
    store, whole = CropStore(tiny_plates[:-1]), CropStore(tiny_plates).table
    restrict(store, blanked[1])
    plates = whole[["Metadata_Source", "Metadata_Plate"]].drop_duplicates().assign(subset="train")
    classes = class_names([store.table])
    found = position_control(store.table, whole, plates, classes)
    guess = found.filter(regex="^Logit_").to_numpy().argmax(axis=1)
    new = found["Metadata_JCP2022"].isin(HIDDEN)
    known = found["Metadata_moa"].notna() & ~new
    # Two mechanisms share each well of these plates.
    assert (np.array(classes)[guess[known]] == found["Metadata_moa"][known]).mean() == 0.5
    assert len(set(guess[new])) == 1


def chain(folder, plates, start, settings=None, **options):
    """Take one step of the chain: a plate, from the networks before it."""
    train(folder, [plates, ""], settings or SETTINGS, validation=(), start=start, **options)
    return outputs_in(folder)


def test_each_step_of_the_chain_goes_on_from_the_networks_before_it(trained, tiny_plates, tmp_path):
    places = folders(tmp_path, "one", "two", "still", "short")
    first = chain(places[0], tiny_plates[0], trained["networks"])
    second = chain(places[1], tiny_plates[1], first["networks"])
    inputs = read_header(second["foundation"])["inputs"]
    assert inputs[first["networks"]] == file_checksum(first["networks"])
    assert set(inputs) == {tiny_plates[1], first["networks"]}  # of the crops the new plate only
    # A step that learns nothing hands on what it was given.
    settings = settings_with(learning_rate=1e-12, final_learning_rate=1e-12, teacher_momentum=1.0)
    still = load_file(chain(places[2], tiny_plates[1], first["networks"], settings)["networks"])
    before, origin = load_file(first["networks"]), load_file(trained["networks"])
    for name in before:
        if name.startswith(("student.", "teacher.")) and before[name].is_floating_point():
            assert torch.allclose(still[name], before[name], atol=1e-6), name
    name = "student.foundation.blocks.0.attn.qkv.weight"
    assert not torch.allclose(before[name], origin[name], atol=1e-6)
    # From elsewhere it ends elsewhere.
    short = chain(places[3], tiny_plates[1], trained["networks"])
    assert not same(short["foundation"], second["foundation"])


def test_an_interrupted_step_of_the_chain_ends_as_if_it_was_not(
    trained, tiny_plates, tmp_path, monkeypatch
):
    one, two = folders(tmp_path, "whole", "interrupted")
    options = dict(start=trained["networks"], watch=OFTEN)
    whole = chain(one, tiny_plates[1], **options)
    update = DinoLearner.update

    def stop(self):
        update(self)
        if self.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(DinoLearner, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        chain(two, tiny_plates[1], **options)
    monkeypatch.undo()
    assert same(chain(two, tiny_plates[1], **options)["networks"], whole["networks"])
