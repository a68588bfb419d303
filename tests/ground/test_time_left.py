"""Time left of a whole run: on runs small enough to work out by hand, and on one that was recorded."""

import csv
from pathlib import Path

import pytest
from coda.time_left import Job, SteadyEnd, network_work, roughly, seconds_left

WORK = {"pretrain": 200.0, "adapt": 100.0}


def test_a_rule_takes_what_its_jobs_took_and_others_what_is_usual():
    jobs = {1: Job("plot"), 2: Job("plot"), 3: Job("report")}
    # 2 x 4 s of plots and, as the only other rule took 4 s on average, 4 s of report, on two cores
    assert seconds_left(jobs, {"plot": [3.0, 5.0]}, WORK, cores=2) == pytest.approx(6)


def test_a_training_is_judged_by_another_in_proportion():
    jobs = {1: Job("adapt"), 2: Job("adapt")}
    assert seconds_left(jobs, {"pretrain": [60.0]}, WORK, cores=1) == pytest.approx(60)
    assert seconds_left(jobs, {"plot": [1.0]}, WORK, cores=1) is None


def test_a_training_that_runs_is_believed_and_the_others_are_judged_by_it():
    running = Job("pretrain", ran=10, left=50, whole=60)
    jobs = {1: running, 2: Job("adapt")}
    assert seconds_left(jobs, {"plot": [1.0]}, WORK, cores=1) == pytest.approx(50 + 30)
    # A job of many parts says how long one of them takes.
    plot = {1: Job("plot", ran=2, left=100, whole=101)}
    assert seconds_left(plot, {"plot": [5.0]}, WORK, cores=1) == pytest.approx(3)


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


def test_a_steady_end_follows_slowly_and_arrives():
    end = SteadyEnd()
    assert end.left(0, 100) == 100
    # One estimate that is twice as long moves it by half of the difference after the time that half of the way takes.
    assert end.left(end.halfway, 200) == pytest.approx(100 - end.halfway + (100 + end.halfway) / 2)
    for now in range(100, 2000, 20):
        last = end.left(now, 2000 - now)
    assert last == pytest.approx(20, abs=1)


def test_lengths_of_time_are_told_as_precisely_as_they_are_known():
    assert [roughly(seconds) for seconds in (0, 59, 61, 3599, 3660)] == [
        "less than a minute", "1 min", "2 min", "1 h 0 min", "1 h 0 min",
    ]  # fmt: skip


def recorded() -> list[dict]:
    """The jobs of a demo on one core beside other work, which made it uneven: when each began and ended."""
    with (Path(__file__).parent / "recorded_run.csv").open() as file:
        return [
            {
                "rule": row["rule"],
                "begin": float(row["begin"]),
                "end": float(row["begin"]) + float(row["seconds"]),
                "after": tuple(map(int, row["after"].split())),
            }
            for row in csv.DictReader(file)
        ]


def test_what_is_told_of_a_recorded_run_is_near_and_does_not_jump():
    history, steady = recorded(), SteadyEnd()
    config = {
        "views": {"global_size": 64, "local_size": 32, "local_count": 4},
        "pretrain": {"epochs": 18}, "adapt": {"epochs": 9}, "classify": {"epochs": 15}, "supervise": {"epochs": 15},
    }  # fmt: skip
    work, last = network_work(config), max(job["end"] for job in history)
    estimates, told = {}, {}
    for now in range(0, int(last), 20):
        jobs, took = {}, {}
        for number, job in enumerate(history):
            length = job["end"] - job["begin"]
            if job["end"] <= now:
                took.setdefault(job["rule"], []).append(length)
                continue
            ran = now - job["begin"]
            told_itself = job["rule"] in work and ran > 0.1 * length
            says = {"left": length - ran, "whole": length} if told_itself else {}
            jobs[number] = Job(job["rule"], ran=max(0.0, ran), after=job["after"], **says)
        left = seconds_left(jobs, took, work, cores=1)
        if left is not None:
            estimates[now], told[now] = left, steady.left(now, left)
    assert min(told) < 0.45 * last  # before pretraining is over
    for now, left in told.items():
        rest = last - now
        assert abs(left - rest) < max(0.35 * rest, 0.07 * last)
    # From one line to the next the end that is told moves by little.
    assert largest_move(told) < 0.05 * last < largest_move(estimates)


def largest_move(told: dict[int, float]) -> float:
    """How far the end moves at most between two lines, in seconds."""
    ends = [now + left for now, left in told.items()]
    return max(abs(after - before) for before, after in zip(ends, ends[1:], strict=False))
