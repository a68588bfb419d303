"""Time left of a whole run, on runs small enough to work out by hand."""

import logging

import pytest
from coda.run_progress import Job, RunProgress, network_work, seconds_left

WORK = {"pretrain": 200.0, "adapt": 100.0}


def test_a_rule_takes_what_its_jobs_took_and_others_what_is_usual():
    jobs = {1: Job("plot"), 2: Job("plot"), 3: Job("report")}
    # 2 x 4 s of plots and, as the only other rule took 4 s on average, 4 s of report, on two cores
    assert seconds_left(jobs, {"plot": [3.0, 5.0]}, WORK, cores=2) == pytest.approx(6)


def test_a_training_is_judged_by_another_in_proportion():
    jobs = {1: Job("adapt"), 2: Job("adapt")}
    assert seconds_left(jobs, {"pretrain": [60.0]}, WORK, cores=1) == pytest.approx(60)
    assert seconds_left(jobs, {"plot": [1.0]}, WORK, cores=1) is None


def test_what_runs_counts_for_the_rest_of_it_and_never_less_than_nothing():
    took = {"adapt": [30.0]}
    assert seconds_left({1: Job("adapt", ran=10)}, took, WORK, 1) == pytest.approx(20)
    assert seconds_left({1: Job("adapt", ran=99)}, took, WORK, 1) == 0


def test_the_longest_chain_counts_where_cores_stand_idle():
    took = {"adapt": [30.0], "plot": [2.0]}
    jobs = {1: Job("adapt", after=(2,)), 2: Job("plot", after=(3,)), 3: Job("plot")}
    assert seconds_left(jobs, took, WORK, cores=16) == pytest.approx(34)


def test_threads_are_cores_that_no_other_job_has():
    jobs = {1: Job("adapt", threads=4), 2: Job("adapt", threads=4)}
    assert seconds_left(jobs, {"adapt": [30.0]}, WORK, cores=4) == pytest.approx(60)


def test_dino_counts_its_views():
    config = {
        "views": {"global_size": 64, "local_size": 32, "local_count": 4},
        "pretrain": {"epochs": 2}, "adapt": {"epochs": 1}, "classify": {"epochs": 1}, "supervise": {"epochs": 3},
    }  # fmt: skip
    work = network_work(config)
    # Student: 2 global views and 4 of a quarter of their area, forwards and back; teacher: 2 forwards.
    assert work["pretrain_foundation"] == 2 * (3 * 3 + 2) == 2 * work["adapt_foundation"]


def told(handler, event, **facts):
    handler.emit(logging.makeLogRecord({"event": event, **facts}))


def test_it_follows_what_snakemake_says(monkeypatch):
    monkeypatch.setattr("threading.Thread.start", lambda thread: None)
    waiting = {1: Job("plot"), 2: Job("plot", after=(3,)), 3: Job("report")}
    handler = RunProgress(lambda: waiting.items(), WORK, cores=2)
    for number, job in waiting.items():
        told(handler, "job_info", jobid=number, rule_name=job.rule)
    told(handler, "job_started", jobs=[1])
    assert handler.line() is None
    told(handler, "job_finished", job_id=1)
    del waiting[1]
    assert handler.line() == "Whole run: 1 of 3 jobs, 0 s, about 0 s left"
    handler.cores = None
    assert "left" not in handler.line()
    waiting.clear()
    assert handler.line() is None
