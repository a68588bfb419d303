import math
import os
import signal
import time

import pytest
import torch
from coda.errors import UserError
from coda.training.dino_trainer import check_learning
from coda.training.trainer import PREEMPTED, Interruption, Means, Stopwatch


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


def rows(*losses, deviation=1.0):
    columns = {"feature_deviation": deviation}
    return [{"epoch": n + 1, "loss": loss, **columns} for n, loss in enumerate(losses)]


def test_alarm_on_a_loss_that_is_no_number():
    with pytest.raises(UserError, match="nan in epoch 2.*learning rate"):
        check_learning(rows(3.0, float("nan")), 256, 3)


def test_alarm_on_a_loss_at_its_ceiling_after_patience():
    top = math.log(256)
    losses = [
        top,
        top,
        4.0,
        top - 1e-4,
        top,
        top,
    ]  # it learned in between, so the count starts again
    for count in range(1, len(losses)):
        check_learning(rows(*losses[:count]), 256, 3)
    with pytest.raises(UserError, match="collapsed.*head.batch_norm.*watch.patience"):
        check_learning(rows(*losses), 256, 3)


def test_alarm_on_features_that_are_all_equal():
    with pytest.raises(UserError, match="collapsed"):
        check_learning(rows(2.0, deviation=1e-5), 256, 1)


class Waited:
    waited = 0.0


def test_a_stopwatch_counts_what_it_saw_alone(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Stopwatch(Waited())
    clock.samples += 60
    clock.loader.waited += 0.5
    now[0] += 2.0
    assert clock.lap() == {"samples_per_second": 30.0, "waiting_share": 0.25}
    now[0] += 50.0  # a look at the validation plate counts in no lap
    clock.restart()
    clock.samples += 10
    now[0] += 1.0
    assert clock.lap() == {"samples_per_second": 10.0, "waiting_share": 0.0}


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
