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
