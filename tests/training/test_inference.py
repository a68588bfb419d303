import numpy as np
import pytest
import torch
from coda.crops.store import CropStore
from coda.training.compute import Compute
from coda.training.inference import apply_to_sites
from coda.training.views import centre_view
from coda.training.vit import cls_tokens
from safetensors.torch import load_file
from small_training import outputs_in, settings_with, train

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


def test_the_look_at_the_validation_plate_is_compiled_once_for_all_epochs(
    tiny_plates, tmp_path, monkeypatch
):
    """Traced as on a GPU and then run as it is, so that the CPU counts what would be compiled."""
    traced, looks = [], []

    def count(graph, _):
        traced.append(graph)
        return graph.forward

    def compiled(self, function, graphs=False):
        if getattr(function, "func", None) is not cls_tokens:
            return function
        run = torch.compile(function, backend=count, dynamic=False)
        return lambda views: looks.append((len(views), len(traced))) or run(views)

    train(tmp_path / "plain", tiny_plates, settings_with(epochs=3))
    monkeypatch.setattr(Compute, "compiled", compiled)
    train(tmp_path / "compiled", tiny_plates, settings_with(epochs=3))
    per_epoch = len(looks) // 3
    assert per_epoch and len(looks) == 3 * per_epoch
    assert 0 < looks[per_epoch][1] == len(traced) <= len({size for size, _ in looks})
    plain, made = (
        load_file(outputs_in(tmp_path / name)["networks"]) for name in ("plain", "compiled")
    )
    assert all(torch.equal(plain[name], made[name]) for name in plain)
