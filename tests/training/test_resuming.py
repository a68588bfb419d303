"""Trainings that are killed, asked to stop or interrupted, and go on."""

import math
import os
import signal
import subprocess
import time
from pathlib import Path

import coda.training.dino_trainer
import coda.training.pretrain
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.checkpoints import StateFolder, StateSaver, read_header
from coda.training.dino_trainer import DinoLearner
from coda.training.settings import WatchSettings
from coda.training.site_selection import usable_rows
from coda.training.trainer import PREEMPTED, Means, Stopwatch, Trainer
from orphan import SNAKEMAKE
from safetensors.torch import load_file
from small_training import (
    OFTEN,
    classify,
    finish_after_kills,
    finish_training,
    outputs_in,
    settings_with,
    start_training,
    train,
)


def states_in(folder: Path) -> list[Path]:
    return sorted((folder / "foundation.states").glob("*/0*.safetensors"))


def wait_for_a_state(folder: Path, running: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not states_in(folder) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def ranks_of(pid: int) -> list[int]:
    """Processes that torch.distributed has started below `pid`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]


def equal(one: str, two: str) -> bool:
    first, second = load_file(one), load_file(two)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.slow
def test_killed_at_any_step_and_started_again_ends_with_the_same_weights(tiny_plates, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    train(calm, tiny_plates, watch=OFTEN)
    steps = 2 * (len(usable_rows(CropStore(tiny_plates[:-1]).table, "labelled")) // 8)
    # Within an epoch, at its end, at the very end: before its state is saved, and before the outputs are there.
    ends = [f"step={step}" for step in (1, steps // 2, steps // 2 + 1, steps)] + [f"save={steps}"]
    said = finish_after_kills(killed, tiny_plates, ends)
    assert f"goes on from the state after step {steps}" in said
    assert equal(*(outputs_in(folder)["networks"] for folder in (calm, killed)))
    assert len(pd.read_parquet(outputs_in(killed)["log"])) == 2
    assert not (killed / "foundation.states").exists()


@pytest.mark.slow
@pytest.mark.parametrize("restarted", ["beside it", "after it"])
def test_a_training_that_outlives_its_snakemake_is_not_made_again(tiny_plates, tmp_path, restarted):
    calm, orphan = tmp_path / "calm", tmp_path / "orphan"
    train(calm, tiny_plates, watch=OFTEN)
    running = start_training(orphan, tiny_plates, SNAKEMAKE)
    wait_for_a_state(orphan, running)
    running.kill()
    if restarted == "after it":
        said, _ = running.communicate(timeout=120)  # which the orphan writes to until its end
        assert "stays in" in said and Path(outputs_in(orphan)["networks"]).exists()
    for output in outputs_in(
        orphan
    ).values():  # as Snakemake does with what it does not know to be whole
        Path(output).unlink(missing_ok=True)
    said = finish_training(orphan, tiny_plates)
    steps = int(pd.read_parquet(outputs_in(calm)["log"])["step"].iloc[-1])
    if restarted == "after it":
        assert f"goes on from the state after step {steps} of {steps}" in said
    else:
        assert "its result is taken" in said or f"state after step {steps}" in said
    assert equal(*(outputs_in(folder)["networks"] for folder in (calm, orphan)))
    assert len(pd.read_parquet(outputs_in(orphan)["log"])) == 2
    assert not (orphan / "foundation.states").exists()


@pytest.mark.slow
def test_a_killed_classifier_ends_with_the_same_weights(tiny_plates, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    outputs = classify(calm, tiny_plates, epochs=2)
    steps = int(pd.read_parquet(outputs["log"])["step"].iloc[-1])
    ends = [f"step={steps // 2 + 1}", f"save={steps}"]
    said = finish_after_kills(killed, tiny_plates, ends, NETWORK="classifier")
    assert f"goes on from the state after step {steps}" in said
    assert equal(outputs["weights"], str(killed / "weights.safetensors"))
    assert len(pd.read_parquet(killed / "log.parquet")) == 2
    assert not (killed / "weights.states").exists()


@pytest.mark.slow
def test_sigterm_saves_and_leaves_with_the_status_to_try_again(tiny_plates, tmp_path):
    running = start_training(tmp_path, tiny_plates, EPOCHS=1000)
    wait_for_a_state(tmp_path, running)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == PREEMPTED, said
    assert "the state is saved" in said and len(states_in(tmp_path)) == 2


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_makes_both_leave_after_the_same_step(
    tiny_plates, tmp_path
):
    running = start_training(tmp_path, tiny_plates, EPOCHS=1000, RANKS=2)
    wait_for_a_state(tmp_path, running)
    last = ranks_of(running.pid)[-1]
    os.kill(last, signal.SIGTERM)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == PREEMPTED, said
    assert said.count("the state is saved") == 1
    left = [int((tmp_path / f"steps_{rank}").read_text()) for rank in range(2)]
    assert left == [read_header(states_in(tmp_path)[-1])["step"]] * 2


class Interrupted(Exception):
    """Stands for whatever ends a training."""


@pytest.fixture
def interrupt(monkeypatch):
    """Make trainings end within the step of the given number."""

    def at(step: int | None) -> None:
        def train_step(self, sites, draws):
            if self.step == step:
                raise Interrupted
            take(self, sites, draws)

        monkeypatch.setattr(DinoLearner, "train_step", train_step)

    take = DinoLearner.train_step
    return at


def test_a_collapse_is_counted_on_after_an_interruption(
    tiny_plates, tmp_path, monkeypatch, interrupt
):
    collapsed = {"loss": math.log(32), "teacher_entropy": 3.4, "feature_deviation": 1.0}
    monkeypatch.setattr(Means, "take", lambda self: dict(collapsed))
    settings, watch = settings_with(epochs=9), WatchSettings(save_minutes=1e-9, patience=3)
    per_epoch = len(usable_rows(CropStore(tiny_plates[:-1]).table, "labelled")) // 8
    seen = []
    append = Trainer._end_epoch
    monkeypatch.setattr(
        Trainer, "_end_epoch", lambda self, *a: seen.append(a[0]) or append(self, *a)
    )
    for stop in (per_epoch + 1, 2 * per_epoch + 1):
        interrupt(stop)
        with pytest.raises(Interrupted):
            train(tmp_path, tiny_plates, settings, watch=watch)
    interrupt(None)
    with pytest.raises(UserError, match="for 3 epochs"):
        train(tmp_path, tiny_plates, settings, watch=watch)
    assert seen == [1, 2, 3]


def test_the_rate_after_an_interruption_counts_only_what_was_done_since(
    tiny_plates, tmp_path, monkeypatch, interrupt
):
    counted = []
    lap = Stopwatch.lap
    monkeypatch.setattr(Stopwatch, "lap", lambda self: counted.append(self.samples) or lap(self))
    interrupt(5)
    with pytest.raises(Interrupted):
        train(tmp_path, tiny_plates, watch=OFTEN)
    interrupt(None)
    train(tmp_path, tiny_plates, watch=OFTEN)
    per_epoch = len(usable_rows(CropStore(tiny_plates[:-1]).table, "labelled")) // 8
    assert counted == [8 * (per_epoch - 5), 8 * per_epoch]


def test_how_a_training_is_watched_starts_nothing_anew(tiny_plates, tmp_path, interrupt, capsys):
    interrupt(5)
    with pytest.raises(Interrupted):
        train(tmp_path, tiny_plates, watch=OFTEN)
    interrupt(None)
    train(tmp_path, tiny_plates, watch=WatchSettings(save_minutes=7, patience=2))
    assert "goes on from the state after step 5" in capsys.readouterr().out


def test_another_precision_goes_on_from_no_state(tiny_plates, tmp_path, interrupt, capsys):
    interrupt(5)
    with pytest.raises(Interrupted):
        train(tmp_path, tiny_plates, watch=OFTEN, precision="bf16")
    interrupt(None)
    train(tmp_path, tiny_plates, precision="fp32")
    said = capsys.readouterr().out
    assert "goes on" not in said
    assert "found a saved state of precision bf16; it is set aside" in said
    assert "begins anew in fp32" in said
    assert read_header(outputs_in(tmp_path)["foundation"])["precision"] == "fp32"


def test_a_state_of_other_settings_is_told_of_as_such(tiny_plates, tmp_path, interrupt, capsys):
    interrupt(5)
    with pytest.raises(Interrupted):
        train(tmp_path, tiny_plates, watch=OFTEN, seed=1)
    interrupt(None)
    train(tmp_path, tiny_plates, seed=2)
    assert (
        "a saved state of other settings, inputs or seed; it is set aside"
        in capsys.readouterr().out
    )


@pytest.fixture
def arranged(monkeypatch):
    """Arrange what comes of each epoch: its accuracy, and whether its end is a time to save."""

    def arrange(accuracies: list[float], due: list[bool]) -> None:
        scores, times = iter(accuracies), iter(due)
        monkeypatch.setattr(coda.training.pretrain, "knn_accuracy", lambda *_, **__: next(scores))
        monkeypatch.setattr(StateSaver, "due", lambda self, ends: ends and next(times))

    return arrange


def test_best_weights_newer_than_any_state_are_found_again(
    tiny_plates, tmp_path, monkeypatch, arranged
):
    """Ended after the best weights of the third epoch are on the disk, and before the state that speaks of them."""
    settings, calm, ended = settings_with(epochs=4), tmp_path / "calm", tmp_path / "ended"
    per_epoch = len(usable_rows(CropStore(tiny_plates[:-1]).table, "labelled")) // 8
    arranged([0.1, 0.2, 0.5, 0.3], [True] * 4)
    train(calm, tiny_plates, settings)
    arranged([0.1, 0.2, 0.5], [True, False, True])
    save = StateFolder.save

    def end_in_the_third_epoch(self, step, *rest):
        if step == 3 * per_epoch:
            raise Interrupted
        save(self, step, *rest)

    monkeypatch.setattr(StateFolder, "save", end_in_the_third_epoch)
    with pytest.raises(Interrupted):
        train(ended, tiny_plates, settings)
    monkeypatch.setattr(StateFolder, "save", save)
    (state,) = states_in(ended)
    assert read_header(state)["step"] == per_epoch
    assert read_header(state.with_name("best.safetensors"))["epoch"] == 3
    arranged([0.2, 0.5, 0.3], [False, False, False])
    train(ended, tiny_plates, settings)
    assert equal(*(outputs_in(folder)["networks"] for folder in (calm, ended)))
    assert read_header(outputs_in(ended)["networks"])["epoch"] == 3


def spoilt_from(call: int, function):
    """Give `function`, from its `call`-th call on with a first tensor that is no number."""
    calls = iter(range(1, 10**6))

    def spoilt(*arguments):
        made = function(*arguments)
        if next(calls) < call:
            return made
        return (made[0] * math.nan, *made[1:]) if isinstance(made, tuple) else made * math.nan

    return spoilt


@pytest.mark.parametrize("teach", [train, classify])
def test_a_loss_that_is_no_number_is_never_saved(tiny_plates, tmp_path, monkeypatch, teach):
    """Where an epoch outlasts two savings, every start would go on from weights that are no numbers."""
    monkeypatch.setattr(
        coda.training.dino_trainer,
        "dino_loss",
        spoilt_from(4, coda.training.dino_trainer.dino_loss),
    )
    monkeypatch.setattr(F, "cross_entropy", spoilt_from(4, F.cross_entropy))
    with pytest.raises(UserError, match="nan in epoch 1; lower the learning rate"):
        teach(tmp_path, tiny_plates, watch=OFTEN)
    states = sorted(tmp_path.glob("*.states/*/0*.safetensors"))
    assert [read_header(state)["step"] for state in states] == [2, 3]
    assert all(tensor.isfinite().all() for tensor in load_file(states[-1]).values())
