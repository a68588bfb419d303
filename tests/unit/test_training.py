import math
import os
import signal

import pytest
import torch
from coda.errors import UserError
from coda.training import (
    PREEMPTED,
    CollapseAlarm,
    Interruption,
    Means,
    decay_groups,
    step_optimizer,
)


def test_only_matrices_decay():
    from coda.models import build_foundation
    from coda.settings import ModelSettings

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


def test_means_survive_a_state():
    whole, half = Means(), Means()
    values = torch.rand(10)
    for value in values:
        whole.add(loss=value)
    for value in values[:4]:
        half.add(loss=value)
    again = Means()
    again.load(half.state(), torch.device("cpu"))
    for value in values[4:]:
        again.add(loss=value)
    assert again.take() == whole.take() == {"loss": pytest.approx(float(values.mean()))}


def test_empty_means_survive_a_state():
    again = Means()
    again.load(Means().state(), torch.device("cpu"))
    assert again.count == 0 and again.sums == {}


def test_alarm_on_a_loss_that_is_no_number():
    with pytest.raises(UserError, match="learning rate"):
        CollapseAlarm(256, 3).check(0, float("nan"), 1.0)


def test_alarm_on_a_loss_at_its_ceiling_after_patience():
    alarm = CollapseAlarm(256, 3)
    for epoch in range(2):
        alarm.check(epoch, math.log(256), 1.0)
    alarm.check(2, 4.0, 1.0)  # it learned after all, so the count starts again
    for epoch in range(3, 5):
        alarm.check(epoch, math.log(256) - 1e-4, 1.0)
    with pytest.raises(UserError, match="collapsed.*head.batch_norm"):
        alarm.check(5, math.log(256), 1.0)


def test_alarm_on_features_that_are_all_equal():
    alarm = CollapseAlarm(256, 1)
    with pytest.raises(UserError, match="collapsed"):
        alarm.check(0, 2.0, 1e-5)


def test_sigterm_is_noted_and_leaves_with_the_status_to_try_again():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption().watched() as interruption:
        assert not interruption.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.asked
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(SystemExit) as left:
        interruption.leave("pretrain")
    assert left.value.code == PREEMPTED
