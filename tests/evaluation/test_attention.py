"""Where networks look: attention against float64 by hand, and calls that are known to hang on one channel."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from coda.columns import SITE_KEYS
from coda.crops.store import CropStore, CropWriter
from coda.evaluation import attention
from coda.evaluation.attention import (
    attention_maps,
    attention_of,
    chosen_sites,
    explain_sites,
    shown_mechanisms,
)
from coda.training.compute import Compute
from coda.training.networks import TaskModel
from coda.training.vit import SteadyAttention
from torch import nn

SMALL = dict(embed_dim=32, depth=2, num_heads=4, patch_size=8, in_chans=3, img_size=32)


def transformer(**options) -> nn.Module:
    common = dict(num_classes=0, dynamic_img_size=True, attn_layer=SteadyAttention)
    name = options.pop("architecture", "vit_tiny_patch16_224")
    vit = timm.create_model(name, **{**SMALL, **common, **options})
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.2)
    return vit.eval()


def networks(**options) -> tuple[nn.Module, TaskModel]:
    torch.manual_seed(0)
    task_model = TaskModel(transformer(), 32, 4)
    nn.init.normal_(task_model.classifier.weight)
    return transformer(**options), task_model.eval()


def by_hand(block: nn.Module, tokens: np.ndarray) -> np.ndarray:
    """Attention of a block for its input tokens (tokens, width), a loop over heads."""
    normed = block.norm1(torch.from_numpy(tokens)).numpy()
    layer, heads, width = block.attn, block.attn.num_heads, tokens.shape[1]
    weight, bias = layer.qkv.weight.numpy(), layer.qkv.bias.numpy()
    projected = normed @ weight.T + bias
    step, total = width // heads, 0
    for head in range(heads):
        mine = slice(head * step, (head + 1) * step)
        query, key = projected[:, :width][:, mine], projected[:, width : 2 * width][:, mine]
        scores = np.exp(query @ key.T / np.sqrt(step))
        total = total + scores / scores.sum(axis=1, keepdims=True)
    return total / heads


@torch.no_grad()
def test_maps_are_those_of_float64_by_hand():
    foundation, task_model = (network.double() for network in networks())
    task_model.classifier.float()  # the last layer computes in float32
    views = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    maps, logits = attention_maps(foundation, task_model, views)
    tokens = foundation.forward_features(views)
    first, last = task_model.blocks
    before = first(task_model.projector(tokens))
    assert maps.shape == (2, 4, 4)
    for view, found in zip(before, maps, strict=True):
        rows = by_hand(last, view.numpy())
        np.testing.assert_allclose(found.numpy().ravel(), rows[0, 1:], rtol=1e-4)
        np.testing.assert_allclose(found.sum(), 1 - rows[0, 0], rtol=1e-4)
    torch.testing.assert_close(logits, task_model(tokens))


def test_attention_is_shares():
    torch.manual_seed(1)
    rows = attention_of(transformer().blocks[0].attn, torch.randn(2, 17, 32))
    torch.testing.assert_close(rows.sum(dim=2), torch.ones(2, 17))
    assert (rows >= 0).all()


@torch.no_grad()
@pytest.mark.parametrize("options", [{"reg_tokens": 2}, {"qk_norm": True}], ids=str)
def test_patches_are_found_beside_other_tokens(options):
    foundation, task_model = networks(**options)
    maps, _ = attention_maps(foundation, task_model, torch.randn(2, 3, 16, 24))
    assert maps.shape == (2, 2, 3) and (maps > 0).all() and (maps.sum(dim=(1, 2)) < 1).all()


@torch.no_grad()
def test_a_block_of_several_attention_layers_has_no_map():
    torch.manual_seed(0)
    parallel = transformer(architecture="vit_small_patch16_18x2_224")
    task_model = TaskModel(parallel, 32, 4).eval()
    maps, logits = attention_maps(transformer(), task_model, torch.randn(2, 3, 32, 32))
    assert maps.shape == (2, 4, 4) and maps.isnan().all() and logits.isfinite().all()


class OneChannel(nn.Module):
    """A foundation whose tokens hold the upper left pixel of one channel, and nothing else."""

    def __init__(self, channel: int):
        super().__init__()
        self.channel = channel
        self.patch_embed = timm.layers.PatchEmbed(32, 8, 3, 32)

    def forward_features(self, views: torch.Tensor) -> torch.Tensor:
        tokens = views.new_zeros(len(views), 17, 32)
        tokens[..., 0] = views[:, self.channel, :1, 0]
        return tokens


class Sign(nn.Module):
    """A classifier of the sign of a token's first number, with attention that is even."""

    def __init__(self):
        super().__init__()
        block = transformer(depth=1).blocks[0]
        nn.init.zeros_(block.attn.qkv.weight)
        self.blocks, self.projector = nn.ModuleList([block]), nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.stack([tokens[:, 0, 0], -tokens[:, 0, 0]], dim=1)


@pytest.fixture
def store(tmp_path):
    random = np.random.default_rng(0)
    with CropWriter(tmp_path / "plate.arrow", ["DNA", "ER", "AGP"], 40, 40, {}) as writer:
        for site in range(70):
            crops = random.integers(0, 255, (1, 3, 40, 40)).astype(np.uint8)
            place = dict(zip(SITE_KEYS, ["s1", "p1", "A01", site], strict=True))
            writer.write(place | {"Metadata_moa": "moa a"}, crops)
    return CropStore([tmp_path / "plate.arrow"])


@pytest.mark.parametrize("channel", range(3))
def test_blanking_changes_a_call_by_the_channel_that_it_hangs_on(store, channel):
    compute = Compute(torch.device("cpu"), "fp32")
    rows = np.arange(70)[::-1].copy()
    inputs = dict(size=32, compute=compute, threads=1)
    torch.manual_seed(0)
    table = explain_sites(store, rows, OneChannel(channel), Sign(), ["up", "down"], **inputs)
    assert list(table["Metadata_Site"]) == list(rows)
    pixels = store.gather(rows)[:, channel, 4:36, 4:36].astype(np.float64)
    value = (pixels[:, 0, 0] - pixels.mean(axis=(1, 2))) / pixels.std(axis=(1, 2))
    assert list(table["Call"]) == list(np.where(value > 0, "up", "down"))
    chance = 1 / (1 + np.exp(-2 * np.abs(value)))
    np.testing.assert_allclose(table["Probability"], chance, atol=1e-5)
    changes = table.filter(like="Change_")
    assert list(changes) == ["Change_DNA", "Change_ER", "Change_AGP"]
    others = np.delete(changes.to_numpy(), channel, axis=1)
    np.testing.assert_allclose(changes.iloc[:, channel], 0.5 - chance, atol=1e-5)
    np.testing.assert_allclose(others, 0, atol=1e-6)
    np.testing.assert_allclose(np.stack(table["Attention"]), 1 / 17, rtol=1e-5)


def test_sites_are_of_good_quality_and_of_each_mechanism(monkeypatch):
    monkeypatch.setattr(attention, "SITES", 3)
    table = pd.DataFrame(
        {
            "Metadata_moa": ["a"] * 6 + ["b"] * 2 + [None] * 4,
            "Quality_ok": [True, False, True, True, False, True, False, False] + [True] * 4,
        }
    )
    rows = chosen_sites(table, ["b", "a"], seed=1)
    # All of b are flagged; better these than none.
    assert set(rows[:2]) == {6, 7} and set(rows[2:]) <= {0, 2, 3, 5} and len(set(rows)) == 5


def test_mechanisms_shown_are_the_commonest_of_both(monkeypatch):
    monkeypatch.setattr(attention, "MECHANISMS", 3)
    home = pd.DataFrame({"Metadata_moa": list("aaabbbbbccdffff") + [None]})
    target = pd.DataFrame({"Metadata_moa": list("aaabbbbcceee")})
    assert shown_mechanisms(home, target, list("fedcba")) == ["a", "b", "c"]
    # What the target alone has is shown where there is room; what it lacks is not.
    assert shown_mechanisms(home, target, list("fedb")) == ["b", "e"]
