"""The workflow on a real Slurm of one node, through everything that happens to jobs on a cluster."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from cluster_run import CONFIG, PATIENCE, Run, jobs, kill, kill_all, overlapping
from one_node import NoSlurm, one_node
from places import ROOT
from safetensors import safe_open
from safetensors.torch import load_file

# The tiny config's training would be over before a test could catch it at work: more epochs, and in the copies a
# rest of PAUSE seconds in each step. Other configs are taken as they are.
TINY = CONFIG.endswith("tiny.yaml")
CHANGES = {"pretrain": {"epochs": 40}, "watch": {"patience": 99}} if TINY else {}
PAUSE = 0.6 if TINY else 0.0


@pytest.fixture(scope="session")
def partition():
    """A Slurm, and its partition for jobs with a GPU."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="requirements-cluster.txt")
    try:
        with one_node() as name:
            yield name
            kill_all()
    except NoSlurm as reason:
        pytest.skip(f"no Slurm: {reason}")


@pytest.fixture(scope="session")
def finished(partition, tmp_path_factory) -> Run:
    """A whole run, though Snakemake is killed on the way and one job is given too little memory at first."""
    folder = tmp_path_factory.mktemp("finished")
    # Less than an interpreter alone: how much of it is shared with other jobs, and counted in parts, does not matter.
    little = {"label_compounds": {"mem_mb": "40 * 30 ** (attempt - 1)"}}
    run = Run.prepare(folder, partition, CHANGES, little)
    running = run.start()
    crops = lambda state: [job for job in jobs(folder, "e") if job.state == state]  # noqa: E731
    run.await_while(running, lambda: crops("RUNNING") and crops("PENDING"))
    kill(running)
    (folder / "in_flight.txt").write_text(
        "\n".join(job.what for job in crops("RUNNING") + crops("PENDING"))
    )
    run.finish(run.start())
    return run


@pytest.fixture(scope="session")
def disturbed(finished, partition, tmp_path_factory) -> dict[str, Run]:
    """The foundation trained again from the same crops, twice at once: each training is stopped on its way."""
    stops = {
        "cancelled": lambda job: ["scancel", str(job.number)],
        # As an operator shortens a job; the profile asks for the signal 2 minutes ahead.
        "out of time": lambda job: ["scontrol", "update", f"JobId={job.number}", "TimeLimit=1"],
    }
    runs, processes = {}, {}
    for name in stops:
        folder = tmp_path_factory.mktemp("disturbed")
        runs[name] = run = Run.prepare(folder, partition, CHANGES, {})
        shutil.copytree(finished.results, run.results)
        foundation(run).unlink()
        target = str(foundation(run).relative_to(folder))
        processes[name] = run.start("--rerun-triggers", "mtime", "--", target, pause=PAUSE)
    # A training takes the whole node, and which of the two Slurm starts first is not for the test to know.
    waiting, deadline = dict(runs), time.monotonic() + PATIENCE
    while waiting:
        for name, run in list(waiting.items()):
            if any((run.results / "models").rglob("*.states/*/0*.safetensors")):
                (job,) = jobs(run.folder)
                subprocess.run(stops[name](job), check=True)
                del waiting[name]
            else:
                run.check(processes[name], deadline)
        time.sleep(0.3)
    for name, run in runs.items():
        run.finish(processes[name])
    return runs


def foundation(run: Run) -> Path:
    (path,) = (run.results / "models").glob("*/*/networks.safetensors")
    return path.with_name("foundation.safetensors")


def test_a_run_ends_with_its_report(finished):
    assert (finished.results / "report.html").stat().st_size > 0
    assert (pd.read_csv(finished.results / "metrics.csv")["metric"] == "accuracy").any()
    assert not list((finished.results / "models").rglob("*.states"))


def test_after_a_kill_nothing_is_lost_and_nothing_runs_twice(finished):
    assert "An earlier run left" in finished.output() and "was killed" in finished.output()
    everything = jobs(finished.folder)
    in_flight = (finished.folder / "in_flight.txt").read_text().splitlines()
    assert len(in_flight) >= 2
    for what in in_flight:
        assert [job.state for job in everything if job.what == what] == ["COMPLETED"], what
    for what in {job.what for job in everything}:
        spans = [(job.begun, job.ended) for job in everything if job.what == what]
        assert not overlapping(spans), what


def test_a_job_with_too_little_memory_is_killed_and_gets_more(finished):
    first, second = jobs(finished.folder, "label_compounds")
    assert (first.memory, second.memory) == ("40M", "1200M")
    assert first.state != "COMPLETED" and second.state == "COMPLETED"
    logs = (finished.folder / ".snakemake/slurm_logs/rule_label_compounds").glob("*.log")
    assert any("memory" in path.read_text().lower() for path in logs)


def test_jobs_with_a_gpu_ask_for_it_and_never_share_it(finished):
    texts = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    bodies = dict(re.findall(r"^rule (\w+):\n((?:[ \t].*\n|\n)*)", texts, re.M))
    by_rule = {job.what.split("_wildcards_")[0]: job.gpus for job in jobs(finished.folder)}
    heirs = {heir: rule for rule, heir in re.findall(r"^use rule (\w+) as (\w+)", texts, re.M)}
    with_gpu = {rule for rule in by_rule if "gpu=" in bodies.get(heirs.get(rule, rule), "")}
    assert {rule for rule, gpus in by_rule.items() if gpus} == with_gpu > {"pretrain_foundation"}
    names = ["second", "job", "device", "event"]
    devices = pd.read_csv(finished.folder / "devices.txt", sep=" ", names=names)
    spans = devices.pivot(index=["job", "device"], columns="event", values="second").reset_index()
    numbers = {job.number for job in jobs(finished.folder) if job.gpus}
    assert set(spans["job"]) == numbers and len(spans) == len(numbers) >= 8
    for _, uses in spans.groupby("device"):
        assert not overlapping(list(zip(uses["taken"], uses["left"], strict=True)))


@pytest.mark.parametrize("stop", ["cancelled", "out of time"])
def test_a_stopped_training_goes_on_to_the_same_weights(finished, disturbed, stop):
    run = disturbed[stop]
    first, second = jobs(run.folder)
    assert first.state in {"cancelled": ("CANCELLED",), "out of time": ("FAILED", "TIMEOUT")}[stop]
    assert second.state == "COMPLETED" and second.begun >= first.ended
    assert "asked to stop; the state is saved" in run.said_by(first)
    assert "goes on from the state after step" in run.said_by(second)
    assert (first.minutes != second.minutes) and second.minutes == "2-00:00:00"
    weights, same = load_file(foundation(finished)), load_file(foundation(run))
    assert weights.keys() == same.keys() and len(weights) > 10
    assert all(torch.equal(weights[name], same[name]) for name in weights)


# As docs/cluster.md shows, but both "nodes" are the one there is, with a GPU and a core each.
TWO_NODES = {
    "tasks": 2,
    "tasks_per_gpu": 0,
    "cpus_per_task": 1,
    "mpi": "'srun --overcommit --cpu-bind=none --kill-on-bad-exit=1'",
}


def test_a_training_spreads_over_two_nodes(finished, partition, tmp_path):
    spread = {**CHANGES, "compute": {"nodes": 2}}
    run = Run.prepare(tmp_path / "two", partition, spread, {"pretrain_foundation": TWO_NODES})
    shutil.copytree(finished.results, run.results)
    foundation(run).unlink()
    target = str(foundation(run).relative_to(run.folder))
    run.finish(run.start("--rerun-triggers", "mtime", "--", target))
    (job,) = jobs(run.folder)
    assert job.state == "COMPLETED" and job.gpus == 2
    with safe_open(foundation(run), "pt") as file:
        assert json.loads(file.metadata()["coda"])["ranks"] == 2
    (log,) = run.results.glob("logs/pretrain_foundation/*/*.log")
    assert log.read_text().count("crops on CPU") == 1
    devices = (run.folder / "devices.txt").read_text().splitlines()
    assert len({line.split()[2] for line in devices if line.endswith("taken")}) == 2
