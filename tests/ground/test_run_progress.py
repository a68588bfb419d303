import logging
import os
import time

import pytest
from coda.progress import Progress, said_left
from coda.run_progress import Place, RunProgress, as_it_says, last_line
from coda.time_left import Job

WORK = {"pretrain": 200.0, "adapt": 100.0}


def told(handler, event, **facts):
    handler.emit(logging.makeLogRecord({"event": event, **facts}))


@pytest.fixture
def run(monkeypatch):
    """A run of three jobs on two cores, and the listener to it."""
    monkeypatch.setattr("threading.Thread.start", lambda thread: None)
    waiting = {
        1: Job("plot", stage="figures"),
        2: Job("plot", after=(3,), stage="figures"),
        3: Job("report", stage="report"),
    }
    handler = RunProgress(lambda: (waiting.items(), False), WORK, cores=2)
    for number, job in waiting.items():
        told(handler, "job_info", jobid=number, rule_name=job.rule)
    return handler, waiting


def test_it_follows_what_snakemake_says(run):
    handler, waiting = run
    told(handler, "job_started", jobs=[1])
    assert handler.line() is None
    told(handler, "job_finished", job_id=1)
    del waiting[1]
    assert handler.line() == "Whole run: 1 of 3 jobs, 0 s, about less than a minute left"
    told(handler, "job_started", jobs=[2])
    assert handler.line().endswith("; now figures (plot)")
    handler.cores = None
    assert "left" not in handler.line()
    waiting.clear()
    assert handler.line() is None


def test_no_time_is_told_while_the_plates_are_still_to_be_chosen(run):
    handler, waiting = run
    told(handler, "job_started", jobs=[1])
    told(handler, "job_finished", job_id=1)
    del waiting[1]
    handler.to_do = lambda: (waiting.items(), True)
    assert handler.line() == "Whole run: 1 of 3 jobs, 0 s"


def test_failed_jobs_are_told_in_the_end_with_their_reason_and_log(run, tmp_path):
    handler, _ = run
    log = tmp_path / "plot.log"
    log.write_text("reads\nError: There is no plate.\nand ends\n")
    told(handler, "job_started", jobs=[1, 3])
    told(handler, "job_error", jobid=1, rule_name="plot", log=[str(log)])
    told(handler, "job_error", jobid=3, rule_name="report", log=[])
    assert handler.failures() == (
        f"Failed: 2 jobs.\n  plot: Error: There is no plate.\n    log: {log}\n  report"
    )
    # One that is tried again has not failed yet.
    told(handler, "job_started", jobs=[1])
    told(handler, "job_finished", job_id=1)
    assert handler.failures() == "Failed: 1 job.\n  report"
    assert "1 failed" in handler.line()


@pytest.mark.parametrize("seconds", [9, 100, 4000])
def test_what_a_job_says_of_its_progress_is_understood(capsys, monkeypatch, seconds):
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = Progress("pretrain source_5", total=20 + seconds, unit="samples")
    progress.update(20, epoch="1/3", loss=2.5)
    share, left = said_left(capsys.readouterr().err.strip())
    assert share == pytest.approx(20 / (20 + seconds))
    assert left == pytest.approx(seconds, abs=60 if seconds > 3600 else 0.5)
    assert said_left("simulate: 5/5 wells, 2 wells/s, took 3 s") is None


def test_what_a_log_says_grows_old(tmp_path):
    log = tmp_path / "training.log"
    log.write_text("partners: 3\npretrain: 25/100 samples, 1 samples/s, 1 min 15 s left\n")
    os.utime(log, (time.time() - 30,) * 2)
    job = as_it_says(Job("pretrain", ran=55, log=str(log)))
    assert job.left == pytest.approx(45, abs=2) and job.whole == 100
    assert as_it_says(Job("pretrain", log=str(tmp_path / "none"))).left is None


def test_a_log_that_is_removed_while_it_is_read_tells_nothing(tmp_path, monkeypatch):
    log = tmp_path / "training.log"
    log.write_text("pretrain: 25/100 samples, 1 samples/s, 1 min 15 s left\n")

    def read_and_remove(path):
        line = last_line(path)
        os.remove(path)
        return line

    monkeypatch.setattr("coda.run_progress.last_line", read_and_remove)
    job = Job("pretrain", ran=55, log=str(log))
    assert as_it_says(job) == job and not log.exists()


class Terminal:
    def __init__(self):
        self.written = ""

    def isatty(self):
        return True

    def write(self, text):
        self.written += text

    def flush(self):
        pass


def test_a_line_stays_in_its_place_only_where_it_is_alone(monkeypatch):
    monkeypatch.setenv("COLUMNS", "11")
    terminal = Terminal()
    Place(terminal, alone=True).show("twelve chars and more")
    assert terminal.written == "\rtwelve cha\x1b[K"
    among_others = Terminal()
    Place(among_others).show("twelve chars and more")
    assert among_others.written == "twelve chars and more\n"
