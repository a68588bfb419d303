import math

import numpy as np
import pytest
import torch
from coda.training.optim import (
    cosine,
    decay_groups,
    ramp,
    step_optimizer,
    warmup_constant,
    warmup_cosine,
)


def test_cosine_equals_the_closed_form():
    steps = 101
    expected = 0.2 + (0.9 - 0.2) * (1 + np.cos(np.pi * np.arange(steps) / (steps - 1))) / 2
    assert np.allclose([cosine(step, steps, 0.9, 0.2) for step in range(steps)], expected)


def test_cosine_stays_at_its_end():
    assert cosine(500, 100, 1.0, 0.1) == pytest.approx(0.1)
    assert cosine(0, 1, 1.0, 0.1) == 0.1


def test_learning_rate_rises_to_the_peak_then_falls_to_the_end():
    rates = [warmup_cosine(step, 50, 10, 1e-3, 1e-6) for step in range(50)]
    assert rates[0] == 0
    assert np.allclose(np.diff(rates[:11]), 1e-4)
    assert rates[10] == max(rates) == 1e-3
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] == pytest.approx(1e-6)


def test_no_warmup_starts_at_the_peak():
    assert warmup_cosine(0, 50, 0, 1e-3, 0.0) == 1e-3
    assert warmup_constant(0, 0, 2.0) == 2.0


def test_constant_after_warmup():
    assert [warmup_constant(step, 4, 2.0) for step in range(6)] == [0, 0.5, 1, 1.5, 2, 2]


def test_ramp():
    assert [ramp(step, 3, 0.04, 0.07) for step in (0, 3, 9)] == [0.04, 0.07, 0.07]
    assert ramp(1, 3, 0.04, 0.07) == pytest.approx(0.05)
    assert ramp(0, 0, 0.04, 0.07) == 0.07


def test_only_matrices_decay():
    from coda.training.networks import build_foundation
    from coda.training.settings import ModelSettings

    small = ModelSettings(
        "vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}, "random"
    )
    model = build_foundation(small, 3, 32)
    decaying, still = (group["params"] for group in decay_groups([model]))
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(p.ndim == 1 for p in still) and still
    assert {names[id(p)].split(".")[-1] for p in still} <= {"bias", "weight"}
    assert "blocks.0.norm1.weight" in {names[id(p)] for p in still}
    assert "blocks.0.mlp.fc1.weight" in {names[id(p)] for p in decaying}
    assert len(decaying) + len(still) == len(names)
    assert decay_groups([model])[1]["weight_decay"] == 0


def test_a_step_clips_sets_rates_and_forgets_gradients():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    bias = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD(
        [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}], lr=0.0
    )
    weight.grad, bias.grad = torch.full((2, 2), 3.0), torch.full((2,), 4.0)
    norm = math.sqrt(4 * 9 + 2 * 16)
    step_optimizer(optimizer, learning_rate=0.1, weight_decay=0.5, clip=1.0)
    assert torch.allclose(weight, torch.full((2, 2), 1 - 0.1 * (3 / norm + 0.5)), atol=1e-5)
    assert torch.allclose(bias, torch.full((2,), 1 - 0.1 * 4 / norm), atol=1e-5)
    assert weight.grad is None and bias.grad is None
