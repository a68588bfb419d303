"""Progress of a whole run: how many jobs are done, how long the others still take, what is at work, what failed.

A training says how long it takes itself; this counts the jobs still to come too (`coda.time_left`). It is one line,
now and then among all others on standard error; or alone, where ``tools/calm_run.py`` sends the others into a file.
"""

import logging
import os
import shutil
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from coda.progress import duration, said_left
from coda.time_left import Job, SteadyEnd, roughly, seconds_left

# What tools/calm_run.py says to the run it starts: where the terminal is, and the name of this part of the whole.
TERMINAL, TITLE = "CODA_TERMINAL", "CODA_TITLE"
TAIL = 4096  # bytes of a log in which its last line is looked for


class RunProgress(logging.Handler):
    """Listen to Snakemake's own messages, and say now and then how far the run has come.

    Parameters
    ----------
    to_do
        Gives the jobs that are not done, by their numbers, with when they began (0 in `Job.ran` for those that wait);
        and whether the plates are still to be chosen, after which there are more.
    work
        What `coda.time_left.network_work` gives.
    cores
        Cores that jobs share; None where they run on other machines, and no time is told.
    """

    def __init__(
        self,
        to_do: Callable[[], tuple[Iterable[tuple[int, Job]], bool]],
        work: Mapping[str, float],
        cores: int | None,
    ):
        super().__init__()
        self.to_do, self.work, self.cores = to_do, work, cores
        self.rules: dict[int, str] = {}
        self.begun: dict[int, float] = {}
        self.failed: dict[int, tuple[str, list[str]]] = {}
        self.took: dict[str, list[float]] = defaultdict(list)
        self.start: float | None = None
        self.end = SteadyEnd()
        self.title = os.environ.get(TITLE, "Whole run")

    def emit(self, record: logging.LogRecord) -> None:
        """Note which jobs begin, end and fail."""
        event, now = str(getattr(record, "event", "")), time.monotonic()
        if event == "job_info":
            self.rules[record.jobid] = record.rule_name
        elif event == "job_started":
            self.begun |= dict.fromkeys(record.jobs, now)
            for number in record.jobs:  # a failed one is tried again
                self.failed.pop(number, None)
            if self.start is None:
                self.start = now
                threading.Thread(target=self._tell_now_and_then, daemon=True).start()
        elif event == "job_error":
            self.failed[record.jobid] = (record.rule_name, list(record.log))
            self.begun.pop(record.jobid, None)
        elif event == "job_finished" and record.job_id in self.begun:
            seconds = now - self.begun.pop(record.job_id)
            self.took[self.rules.get(record.job_id, "")].append(seconds)

    def line(self) -> str | None:
        """Say how far the run has come.

        None where its jobs are just being planned anew, where all are done, and before the first is: with
        ``--quiet progress`` Snakemake does not say which are.
        """
        now, begun = time.monotonic(), dict(self.begun)
        try:
            waiting, more = self.to_do()
            jobs = dict(waiting)
        except RuntimeError:  # changed while it was read
            return None
        done = sum(map(len, self.took.values()))
        if not jobs or not done:
            return None
        for number in begun.keys() & jobs.keys():
            jobs[number] = as_it_says(replace(jobs[number], ran=now - begun[number]))
        told = f"{self.title}: {done} of {done + len(jobs)} jobs, {duration(now - self.start)}"
        if self.failed:
            told += f", {len(self.failed)} failed"
        left = None
        if self.cores and not more:
            left = seconds_left(jobs, dict(self.took), self.work, self.cores)
        if left is not None:
            told += f", about {roughly(self.end.left(now, left))} left"
        running = at_work(jobs[number] for number in begun.keys() & jobs.keys())
        return f"{told}; now {running}" if running else told

    def failures(self) -> str:
        """Say which jobs failed in the end, why by their logs, and where these are; empty if none did."""
        if not self.failed:
            return ""
        lines = [f"Failed: {len(self.failed)} job{'s' * (len(self.failed) > 1)}."]
        for rule, logs in self.failed.values():
            lines.append(f"  {rule}: {reason(logs[0]) if logs else ''}".rstrip(": "))
            lines += [f"    log: {path}" for path in logs]
        return "\n".join(lines)

    def _tell_now_and_then(self) -> None:
        place = Place.of_environment()
        while True:
            time.sleep(place.every)
            if line := self.line():
                place.show(line)


class Place:
    """Where the line is shown.

    Parameters
    ----------
    stream
        The terminal, or what is in its place.
    alone
        Whether nothing else is written there; on a terminal the line then stays in its place.
    """

    def __init__(self, stream: TextIO, alone: bool = False):
        self.stream = stream
        self.stays = alone and stream.isatty()
        self.every = 2.0 if self.stays else 20.0  # seconds between lines

    @classmethod
    def of_environment(cls) -> "Place":
        """Give the terminal that ``tools/calm_run.py`` keeps for the line, else standard error."""
        if number := os.environ.get(TERMINAL):
            return cls(os.fdopen(int(number), "w", closefd=False), alone=True)
        return cls(sys.stderr)

    def show(self, line: str) -> None:
        """Write the line, over the one before where it stays."""
        if self.stays:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write(f"\r{line[:width]}\x1b[K")
        else:
            self.stream.write(f"{line}\n")
        self.stream.flush()


def at_work(jobs: Iterable[Job]) -> str:
    """Name what runs, by stage: ``"figures (plot_quality, 2 plot_pair), training (adapt_foundation)"``."""
    counts = Counter((job.stage, job.rule) for job in jobs)
    stages: dict[str, list[str]] = defaultdict(list)
    for (stage, rule), count in sorted(counts.items()):
        stages[stage].append(f"{count} {rule}" if count > 1 else rule)
    return ", ".join(f"{stage} ({', '.join(rules)})" for stage, rules in stages.items())


def last_line(path: str, beginning: str = "") -> str:
    """Give the last line of a log, of those with a `beginning`; empty if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.stat(path).st_size - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next(
        (line for line in reversed(lines) if line.strip() and line.startswith(beginning)), ""
    )


def reason(path: str) -> str:
    """Give the sentence in which a log says why its job ended: its error, else its last line."""
    return last_line(path, "Error: ") or last_line(path)


def as_it_says(job: Job) -> Job:
    """Add what a running job says in its log of the time that it takes."""
    said = said_left(last_line(job.log)) if job.log else None
    if said is None:
        return job
    share, left = said
    try:
        since = time.time() - os.stat(job.log).st_mtime
    except OSError:  # removed meanwhile, as Snakemake does where a job starts again
        return job
    return replace(
        job, left=max(0.0, left - since), whole=left / (1 - share) if share < 1 else None
    )


def jobs_of(dag: Any) -> tuple[Iterable[tuple[int, Job]], bool]:
    """Give the jobs of a Snakemake run that are not done, and whether it will have more once a checkpoint is over."""
    needed = list(dag.needrun_jobs())
    jobs = []
    for job in needed:
        after = tuple(other.jobid for other in dag.depending[job])
        stage, log = Path(job.rule.snakefile).stem, next(iter(job.log), "")
        jobs.append((job.jobid, Job(job.rule.name, job.threads, 0.0, after, stage, str(log))))
    return jobs, any(job.is_checkpoint for job in needed)
