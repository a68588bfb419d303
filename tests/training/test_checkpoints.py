import os
import random
import time

import pytest
import torch
from coda.errors import UserError
from coda.training.checkpoints import (
    StateFolder,
    StateSaver,
    load_optimizer,
    load_state,
    optimizer_tensors,
    prefixed,
    read_header,
    save_state,
    save_weights,
    unprefixed,
)


def test_weights_and_header_come_back(tmp_path):
    tensors = {"a.b": torch.randn(3, 4).T, "c": torch.arange(5)}
    save_weights(tmp_path / "w.safetensors", tensors, {"classes": ["x", "y/z"], "seed": 7})
    from safetensors.torch import load_file

    loaded = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert read_header(tmp_path / "w.safetensors") == {"classes": ["x", "y/z"], "seed": 7}


def test_foreign_weights_have_no_header(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="w.safetensors"):
        read_header(tmp_path / "w.safetensors")


def test_prefixes_round_trip():
    tensors = {"a": torch.zeros(1), "b.c": torch.ones(1)}
    both = prefixed("student", tensors) | prefixed("students", {"x": torch.ones(2)})
    assert unprefixed("student", both).keys() == tensors.keys()


def test_optimizer_goes_on_exactly(tmp_path):
    def setup():
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer, optimizer, number):
        layer(torch.full((2, 4), float(number))).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    one, optimizer = setup()
    for number in range(6):
        step(one, optimizer, number)
    two, optimizer = setup()
    for number in range(3):
        step(two, optimizer, number)
    save_weights(tmp_path / "o.safetensors", optimizer_tensors(optimizer), {})
    weights = {name: value.clone() for name, value in two.state_dict().items()}
    three, optimizer = setup()
    three.load_state_dict(weights)
    from safetensors.torch import load_file

    load_optimizer(optimizer, load_file(tmp_path / "o.safetensors"))
    for number in range(3, 6):
        step(three, optimizer, number)
    assert torch.equal(one.weight, three.weight)


def test_the_last_two_states_are_kept(tmp_path):
    states = StateFolder(tmp_path / "run.states", "me")
    for step in (5, 10, 15):
        states.save(step, {"x": torch.tensor([step])}, {"log": []})
    assert sorted(path.name for path in states.folder.iterdir()) == [
        "000000010.safetensors",
        "000000015.safetensors",
    ]
    tensors, header = states.load()
    assert tensors["x"].item() == header["step"] == 15


def test_a_broken_state_falls_back_on_the_one_before(tmp_path, capsys):
    states = StateFolder(tmp_path / "run.states", "me")
    for step in (5, 10):
        states.save(step, {"x": torch.tensor([step])}, {})
    newest = states.folder / "000000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    assert states.load()[1]["step"] == 5
    assert "not whole" in capsys.readouterr().out


def test_states_of_other_settings_are_not_resumed(tmp_path):
    old = StateFolder(tmp_path / "run.states", "old")
    old.save(50, {"x": torch.zeros(1)}, {})
    new = StateFolder(tmp_path / "run.states", "new")
    assert new.load() is None
    new.save(1, {"x": torch.zeros(1)}, {})
    assert old.load() is None and new.load()[1]["step"] == 1


def test_removing_leaves_nothing(tmp_path):
    states = StateFolder(tmp_path / "run.states", "me")
    with states.alone():
        states.save(1, {"x": torch.zeros(1)}, {})
        states.remove()
    assert list(tmp_path.iterdir()) == []


def hold(folder, seconds, ready):
    with StateFolder(folder, "me").alone():
        ready.set()
        time.sleep(seconds)
        (folder / "done").touch()


def test_a_second_process_waits_for_the_first(tmp_path, processes, capsys):
    ready = processes.Event()
    other = processes.Process(target=hold, args=(tmp_path, 1.0, ready))
    other.start()
    assert ready.wait(60)
    with StateFolder(tmp_path, "me").alone():
        assert (tmp_path / "done").exists()
    other.join()
    assert f"Process {other.pid} on" in capsys.readouterr().out


def test_a_second_process_that_waits_in_vain_is_told_who_is_there(tmp_path, processes):
    ready = processes.Event()
    other = processes.Process(target=hold, args=(tmp_path, 600, ready))
    other.start()
    assert ready.wait(60)
    told = pytest.raises(UserError, match=f"Process {other.pid} on .* trains in .* too")
    with told, StateFolder(tmp_path, "me").alone(patience=0.2):
        pass
    other.kill()  # its lock file stays, and is no hindrance
    other.join()
    assert (tmp_path / "lock").exists()
    with StateFolder(tmp_path, "me").alone(patience=0.2):
        pass


def test_a_lock_that_went_with_its_folder_is_no_lock(tmp_path):
    """Whoever waits while the states are removed must lock what is there then, not the file that is gone."""
    states, other = (StateFolder(tmp_path / "run.states", "me") for _ in range(2))
    with states.alone():
        states.remove()
        with other.alone(patience=0.2):  # the folder is free again
            third = StateFolder(tmp_path / "run.states", "me")
            with pytest.raises(UserError, match="trains in"), third.alone(patience=0.2):
                pass
    stale = open(tmp_path / "run.states" / "lock", "a")  # noqa: SIM115
    states.remove()
    with states.alone(patience=0.2):
        assert os.fstat(stale.fileno()).st_ino != (tmp_path / "run.states/lock").stat().st_ino
    stale.close()


class SlowDisk:
    """Stands for a clock that every saving moves on by `seconds`."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.saves = 1000.0, 0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        save = StateFolder.save

        def slowly(states, *arguments):
            save(states, *arguments)
            self.now, self.saves = self.now + seconds, self.saves + 1

        monkeypatch.setattr(StateFolder, "save", slowly)


def train_by_the_clock(saver, clock, epochs, seconds, steps=4):
    for step in range(1, steps * epochs + 1):
        clock.now += seconds / steps
        if saver.due(step % steps == 0):
            saver.save(step, {"x": torch.zeros(1)}, [])


@pytest.mark.parametrize("took", [0.01, 0.5, 3.0])
def test_saving_at_the_ends_of_short_epochs_takes_a_twentieth_at_most(tmp_path, monkeypatch, took):
    clock = SlowDisk(monkeypatch, took)
    saver = StateSaver(StateFolder(tmp_path / "run.states", "me"), minutes=10)
    train_by_the_clock(saver, clock, epochs=500, seconds=2.0)
    assert (clock.saves - 1) * took <= 0.05 * (clock.now - 1000.0)
    assert clock.saves >= min(500, 500 * 2.0 / (20 * took + 2.0))  # and no rarer than that


def test_long_epochs_are_saved_every_few_minutes_and_at_their_ends(tmp_path, monkeypatch):
    clock = SlowDisk(monkeypatch, 0.5)
    saver = StateSaver(StateFolder(tmp_path / "run.states", "me"), minutes=10)
    train_by_the_clock(saver, clock, epochs=2, seconds=1500.0, steps=1500)
    assert clock.saves == 6  # twice within each of the epochs, which take 25 minutes


def test_the_best_weights_are_those_of_their_time_and_on_the_disk_before_the_state(tmp_path):
    states = StateFolder(tmp_path / "run.states", "me")
    saver, weights = StateSaver(states, minutes=10), {"x": torch.tensor([1.0])}
    saver.judge(0.5, weights, {"epoch": 1})
    weights["x"] += 1  # the training goes on
    saver.judge(0.4, weights, {"epoch": 2})
    assert not states.best.exists()
    saver.save(8, weights, [])
    assert read_header(states.best)["epoch"] == 1
    again = StateSaver(states, minutes=10)
    assert again.load()[1]["step"] == 8 and again.best == 0.5
    from safetensors.torch import load_file

    assert load_file(states.best)["x"].item() == 1.0


MIXED = {
    "a": torch.linspace(0, 1, 7),
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
    "count": torch.tensor(5),
    "none": torch.zeros(0, 3),
    "flags": torch.tensor([True, False]),
}


def test_a_state_is_read_to_the_bit_or_refused(tmp_path):
    """Hundreds of bits flipped, bytes cut off or written over, anywhere in the file."""
    path, rng = tmp_path / "s.safetensors", random.Random(0)
    save_state(path, MIXED, {"log": [{"loss": 0.1}], "best": 0.5})
    content = path.read_bytes()
    tensors, header = load_state(path)
    assert header == {"log": [{"loss": 0.1}], "best": 0.5}
    assert all(torch.equal(tensors[name], MIXED[name]) for name in MIXED)
    refused = 0
    for _ in range(600):
        changed = bytearray(content)
        kind, place = rng.randrange(3), rng.randrange(len(content))
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[place:]
        else:
            changed[place : place + 16] = rng.randbytes(16)
        path.write_bytes(changed)
        try:
            read, said = load_state(path)
        except UserError:
            refused += 1
            continue
        assert said == header and read.keys() == MIXED.keys()
        assert all(torch.equal(read[name], MIXED[name]) for name in MIXED)
    assert refused > 500


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)


def trained(folder):
    """States after steps 5 and 10, both of which speak of the best weights."""
    states = StateFolder(folder / "run.states", "me")
    saver = StateSaver(states, minutes=10)
    saver.judge(0.5, {"x": torch.ones(1)}, {"epoch": 1})
    for step in (5, 10):
        saver.save(step, {"x": torch.tensor([float(step)])}, [{"epoch": 1}])
    return states


@pytest.mark.parametrize("damage", ["flipped", "empty", "lacks a key", "folder"])
def test_the_older_state_is_taken_and_the_damaged_one_does_not_come_back(tmp_path, capsys, damage):
    states = trained(tmp_path)
    newest = states.folder / "000000010.safetensors"
    if damage == "flipped":
        flip(newest)
    elif damage == "empty":
        newest.write_bytes(b"")
    elif damage == "lacks a key":
        save_state(newest, {"x": torch.zeros(1)}, {"log": []})
    else:
        newest.unlink()
        newest.mkdir()
    saver = StateSaver(states, minutes=10)
    tensors, header = saver.load()
    assert header["step"] == tensors["x"].item() == 5 and saver.best == 0.5
    assert "left aside" in capsys.readouterr().out and not newest.exists()
    saver.save(7, {"x": torch.tensor([7.0])}, [])
    assert StateSaver(states, minutes=10).load()[1]["step"] == 7


@pytest.mark.parametrize("damage", ["flipped", "empty", "absent"])
def test_without_its_best_weights_a_training_begins_anew_for_good(tmp_path, capsys, damage):
    states = trained(tmp_path)
    if damage == "flipped":
        flip(states.best)
    elif damage == "empty":
        states.best.write_bytes(b"")
    else:
        states.best.unlink()
    saver = StateSaver(states, minutes=10)
    assert saver.load() is None and saver.best == -1
    assert "best weights" in capsys.readouterr().out
    saver.judge(0.3, {"x": torch.zeros(1)}, {"epoch": 1})
    saver.save(2, {"x": torch.tensor([2.0])}, [])
    again = StateSaver(states, minutes=10)
    assert again.load()[1]["step"] == 2 and again.best == 0.3  # not the 0.5 of before


def test_the_result_of_a_training_that_outlived_its_snakemake_is_taken(tmp_path, capsys):
    states = StateFolder(tmp_path / "run.states", "me")
    weights, log = tmp_path / "run.safetensors", tmp_path / "log.parquet"
    assert not states.completed([weights, log])
    save_weights(weights, {"x": torch.ones(1)}, {"training": "me"})
    assert not states.completed([weights, log])
    log.touch()
    assert states.completed([weights, log]) and "its result is taken" in capsys.readouterr().out
    assert not StateFolder(tmp_path / "run.states", "other").completed([weights, log])
    weights.write_bytes(b"")
    assert not states.completed([weights, log])


def test_states_stay_where_outputs_were_removed_for_a_job_that_waits(tmp_path):
    states = trained(tmp_path)
    states.remove([tmp_path / "gone"])
    assert states.load()[1]["step"] == 10
    states.remove([states.best])
    assert states.load() is None


def test_a_link_among_the_states_is_left_alone(tmp_path):
    states, other = trained(tmp_path), tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    (states.parent / "link").symlink_to(other)
    states.save(20, {"x": torch.zeros(1)}, {})
    assert (other / "precious").exists()


@pytest.mark.parametrize("wrong", [{"best": "x"}, {"best": None}, {"log": None}, {"step": [1]}])
def test_a_state_with_values_of_other_kinds_is_left_aside(tmp_path, wrong, capsys):
    states = StateFolder(tmp_path / "run.states", "me")
    header = {"log": [], "best": -1.0, "step": 10} | wrong
    save_state(states.folder / "000000010.safetensors", {"x": torch.ones(1)}, header)
    assert StateSaver(states, minutes=10).load() is None
    assert "it is left aside" in capsys.readouterr().out
