"""Crops that come harmonised: as the filters say, plate by plate, and no others."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from coda.crops.harmonisation import Harmoniser, load_harmonisations, save_harmonisations
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.errors import UserError
from harmonised_plates import blurred_lab, save_filters


@pytest.fixture(scope="module")
def lab(tiny_plates, tmp_path_factory):
    """Two plates of a lab with a blurred microscope, and the filters of both."""
    folder = tmp_path_factory.mktemp("lab")
    plates = blurred_lab(tiny_plates[2:], folder)
    return plates, save_filters(plates, tiny_plates[:2], folder / "filters.parquet")


def test_each_crop_is_filtered_as_its_plate_is_and_the_training_source_s_are_not(lab, tiny_plates):
    plates, filters = lab
    store = HarmonisedStore([*plates, tiny_plates[2]], filters)
    rows = np.random.default_rng(0).integers(0, len(store), (2, 9))
    crops = torch.from_numpy(store.gather(rows.reshape(-1))).unflatten(0, rows.shape)
    found = store.on_device(crops, rows)
    assert found.shape == crops.shape and found.dtype == torch.float32
    by_plate = {(each.source, each.plate): each for each in load_harmonisations(filters)}
    keys = list(map(tuple, store.table[["Metadata_Source", "Metadata_Plate"]].to_numpy()))
    wanted = Harmoniser(by_plate, "cpu")(crops.flatten(0, 1), [keys[row] for row in rows.flat])
    assert torch.equal(found.flatten(0, 1), wanted)
    home = store.table["Metadata_Source"].to_numpy()[rows] == "source_1"
    assert home.any() and torch.equal(found[home], crops[home].float())
    assert (found[~home] - crops[~home]).abs().amax(dim=(1, 2, 3)).min() > 1


def test_the_files_stay_as_they_are(lab):
    plates, filters = lab
    plain, harmonised = CropStore(plates), HarmonisedStore(plates, filters)
    assert np.array_equal(plain.gather([3, 40]), harmonised.gather([3, 40]))
    crops = torch.from_numpy(plain.gather([3]))
    assert plain.on_device(crops, np.array([3])) is crops


def test_it_travels_to_other_processes_with_its_filters(lab):
    plates, filters = lab
    store = HarmonisedStore(plates, filters)
    again = pickle.loads(pickle.dumps(store))
    assert isinstance(again, HarmonisedStore) and again.filters == filters
    assert again.paths == store.paths
    sums = store.checksums()
    assert set(sums) == {*plates, filters}
    assert {path: sums[path] for path in plates} == CropStore(plates).checksums()


def test_filters_of_other_channels_are_refused(lab, tmp_path):
    plates, filters = lab
    other = [replace(each, channels=["DNA", "AGP"]) for each in load_harmonisations(filters)]
    save_harmonisations(other, tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"other\.parquet is for the channels"):
        HarmonisedStore(plates, str(tmp_path / "other.parquet"))
