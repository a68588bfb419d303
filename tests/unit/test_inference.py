import numpy as np
import pytest
import torch
from coda.compute import Compute
from coda.inference import apply_to_sites
from coda.store import CropStore
from coda.views import centre_view

COMPUTE = Compute(torch.device("cpu"), "fp32")


@pytest.mark.parametrize("batch_size", [3, 64])
def test_every_site_once_in_order_whatever_the_batch(tiny_plates, batch_size):
    store = CropStore(tiny_plates)
    sites = np.random.default_rng(0).permutation(len(store))[:50]
    means, numbers = apply_to_sites(
        lambda views: (views.std(dim=(1, 2, 3)), views[:, :, 0, 0]),
        store,
        sites,
        32,
        COMPUTE,
        batch_size,
    )
    expected = centre_view(torch.from_numpy(store.gather(sites)), 32)
    assert torch.allclose(means, expected.std(dim=(1, 2, 3)))
    assert torch.equal(numbers, expected[:, :, 0, 0])


def test_no_gradient_is_kept(tiny_plates):
    weight = torch.ones(1, requires_grad=True)
    (out,) = apply_to_sites(
        lambda views: (views.mean(dim=(1, 2, 3)) * weight,),
        CropStore(tiny_plates),
        np.arange(4),
        16,
        COMPUTE,
    )
    assert not out.requires_grad


def test_what_is_compiled_sees_one_size_of_batch(tiny_plates):
    store, sizes = CropStore(tiny_plates[:1]), []

    def means(views):
        sizes.append(len(views))
        return (views.mean(dim=(2, 3)), views[:, 0, 0, 0])

    sites = np.arange(21)
    plain, filled = (
        apply_to_sites(
            means, store, sites, 32, Compute(torch.device("cpu"), "fp32", compile), batch_size=8
        )
        for compile in (False, True)
    )
    assert sizes == [8, 8, 5, 8, 8, 8]
    assert all(torch.equal(one, two) for one, two in zip(plain, filled, strict=True))
