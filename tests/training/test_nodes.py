"""Several nodes: here copies of a script on one machine, started by what stands in for a scheduler's launcher."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from coda.errors import UserError
from coda.logs import COPY
from coda.training.compute import Machine
from coda.training.distributed import NUMBERS, PREEMPTED, Node, run_on_nodes
from coda.training.pretrain import FoundationJob, train_foundation
from places import ROOT, SCRIPTS
from safetensors.torch import load_file
from small_training import (
    ALIKE,
    SETTINGS,
    finish_training,
    outputs_in,
    settings_with,
    start_training,
    train,
)

HERE = str(ROOT / "tests/helpers")


def work(folder, **variables: object) -> tuple[subprocess.CompletedProcess, list[str]]:
    """Run two_nodes.py, and give its log too."""
    paths = os.pathsep.join([str(SCRIPTS), HERE])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment |= {name: str(value) for name, value in variables.items()}
    log = folder / "job.log"
    log.write_text("of an earlier attempt\n")
    done = subprocess.run(
        [sys.executable, f"{HERE}/two_nodes.py", "work", str(log), str(folder)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    return done, log.read_text().splitlines()


@pytest.mark.slow
def test_processes_of_all_nodes_are_one_group_and_write_to_one_log(tmp_path):
    done, log = work(tmp_path, EACH=2)
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_text() for path in tmp_path.glob("*_of_*")}
    assert found == {f"{rank}_of_4": "10.0" for rank in range(4)}
    assert log[0] == "before" and log[-1] == "after"
    assert {f"rank {rank} of 4 is there" for rank in range(4)} <= set(log)


@pytest.mark.slow
def test_a_fault_on_one_node_ends_all_and_is_told_once(tmp_path):
    done, log = work(tmp_path, FAIL=1)
    assert done.returncode, log
    assert log.count("Error: head.batch_norm is at fault.") == 1
    assert "after" not in log and not list(tmp_path.glob("*_of_*"))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all(tmp_path):
    done, log = work(tmp_path, DIES=1)
    assert done.returncode and "after" not in log


@pytest.mark.slow
@pytest.mark.parametrize("says", [143, 1, 0])
def test_a_stop_is_known_whatever_the_launcher_says(tmp_path, says):
    done, log = work(tmp_path, STOP=1, SAYS=says)
    assert done.returncode == PREEMPTED, (done.stderr, log)
    assert [line for line in log if "the state is saved" in line] and "after" not in log


@pytest.mark.slow
def test_without_a_stop_the_launchers_status_passes(tmp_path):
    done, log = work(tmp_path, SAYS=143)
    assert done.returncode == 143 and "after" not in log


@pytest.mark.slow
def test_two_nodes_that_are_stopped_on_the_way_give_the_weights_of_one(tiny_plates, tmp_path):
    settings = settings_with(epochs=3, drop_path=0.0)
    train(tmp_path / "one", tiny_plates, settings, **ALIKE)
    running = start_training(tmp_path / "two", tiny_plates, NODES=2, EPOCHS=3, HELD=1)
    while len(list(tmp_path.glob("two/held_*"))) < 2 and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 75 and "the state is saved" in said, said
    said = finish_training(tmp_path / "two", tiny_plates, NODES=2, EPOCHS=3)
    assert "goes on from the state after step" in said
    one, two = (weights(tmp_path / name) for name in ("one", "two"))
    # Sums over processes round otherwise, and so do the weights.
    assert (two - one).norm() / one.norm() < 1e-3, (two - one).norm() / one.norm()


def weights(folder) -> torch.Tensor:
    """Give the teacher and all else that an adaptation starts from, as one vector."""
    tensors = load_file(outputs_in(folder)["networks"])
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def job_on(machine: Machine, folder) -> FoundationJob:
    return FoundationJob(["none.arrow"], outputs_in(folder), SETTINGS, 0, machine, "test")


def test_nodes_need_a_launcher(tmp_path):
    with pytest.raises(UserError, match="compute.nodes is 2.*resource mpi.*docs/cluster.md"):
        train_foundation(job_on(Machine(8, 1).spread(2, None), tmp_path))


def test_a_launcher_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no_such_program.*cannot be run"):
        run_on_nodes(2, "no_such_program --flag")


def test_gpus_are_split_over_the_nodes():
    machine = Machine(8, 1).spread(2, "srun")
    assert (machine.gpus, machine.nodes) == (4, 2)
    assert Machine(0, 1).spread(1, None) == Machine(0, 1)


def test_one_node_has_no_number():
    assert Node.this() is None


def test_a_launcher_that_numbers_nothing_is_told(monkeypatch):
    monkeypatch.setenv(COPY, "2 host:1 /tmp/a folder/stopped")
    for name in NUMBERS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="none of SLURM_PROCID, .* is set; name another"):
        Node.this()
    monkeypatch.setenv("PMI_RANK", "1")
    assert Node.this() == Node(1, 2, "host:1", Path("/tmp/a folder/stopped"))
