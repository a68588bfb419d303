import threading

import numpy as np
import pytest
import torch
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.training.loader import Loader, epoch_order
from harmonised_plates import blurred_lab, save_filters

CPU = torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_arrive_in_order_with_the_right_pixels(tiny_plates, threads):
    store = CropStore(tiny_plates)
    random = np.random.default_rng(0)
    plan = [(random.integers(0, len(store), (2, 5)), number) for number in range(7)]
    batches = list(Loader(store, iter(plan), CPU, threads))
    assert [rest for _, rest in batches] == list(range(7))
    for (batch, _), (indices, _) in zip(batches, plan, strict=True):
        assert batch.shape == (2, 5, 2, 48, 48) and batch.dtype == torch.uint8
        assert np.array_equal(batch.numpy(), store.gather(indices.reshape(-1)).reshape(batch.shape))


def test_a_store_that_harmonises_gives_its_batches_harmonised(tiny_plates, tmp_path):
    plates = blurred_lab(tiny_plates[2:], tmp_path)
    filters = save_filters(plates, tiny_plates[:2], tmp_path / "filters.parquet")
    store = HarmonisedStore(plates, filters)
    rows = np.arange(12).reshape(2, 6) * 5
    ((batch, _),) = Loader(store, iter([(rows, None)]), CPU)
    crops = torch.from_numpy(store.gather(rows.reshape(-1))).unflatten(0, rows.shape)
    assert batch.shape == (2, 6, 2, 48, 48)
    assert torch.equal(batch, store.on_device(crops, rows)) and not torch.equal(
        batch, crops.float()
    )


@pytest.mark.parametrize("side", [48, 33, 16, 60])
def test_the_centre_of_a_crop_is_that_of_the_whole_crop(tiny_plates, side):
    store, rows = CropStore(tiny_plates), np.array([[3, 1], [40, 3]])
    ((batch, _),) = Loader(store, iter([(rows, None)]), CPU, threads=2, side=side)
    end = min(side, 48)
    top = (48 - end) // 2
    whole = store.gather(rows.reshape(-1)).reshape(2, 2, 2, 48, 48)
    assert np.array_equal(batch.numpy(), whole[..., top : top + end, top : top + end])


def test_a_store_that_harmonises_filters_whole_crops(tiny_plates, tmp_path):
    plates = blurred_lab(tiny_plates[2:], tmp_path)
    store = HarmonisedStore(
        plates, save_filters(plates, tiny_plates[:2], tmp_path / "filters.parquet")
    )
    whole, asked = (
        next(iter(Loader(store, iter([(np.arange(4), None)]), CPU, side=side)))[0]
        for side in (None, 16)
    )
    assert torch.equal(whole, asked)


def test_batches_do_not_share_memory(tiny_plates):
    store = CropStore(tiny_plates)
    loader = iter(Loader(store, ((np.array([n]), n) for n in range(6)), CPU))
    kept = [batch for batch, _ in loader]
    for number, batch in enumerate(kept):
        assert np.array_equal(batch.numpy(), store.gather([number]))


def test_a_fault_while_gathering_reaches_the_reader(tiny_plates):
    store = CropStore(tiny_plates)
    with pytest.raises(IndexError):
        list(Loader(store, iter([(np.array([10**6]), None)]), CPU))


def test_leaving_early_ends_the_thread(tiny_plates):
    store = CropStore(tiny_plates)
    before = threading.active_count()
    for batch, _ in Loader(store, ((np.array([0]), None) for _ in range(1000)), CPU, threads=2):
        assert batch.shape[0] == 1
        break
    import gc

    gc.collect()
    assert threading.active_count() <= before


def test_an_epoch_shows_each_site_once_in_an_order_of_its_own():
    sites = np.arange(50) * 3
    orders = [epoch_order(sites, seed=1, epoch=epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == sorted(sites)
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[2], epoch_order(sites, seed=1, epoch=2))
    assert not np.array_equal(orders[0], epoch_order(sites, seed=2, epoch=0))
