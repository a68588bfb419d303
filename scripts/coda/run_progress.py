"""Progress of a whole run: how many jobs are done, and how long the others still take.

A training says how long it takes itself; this counts the jobs still to come too. What a job takes is what jobs of its
rule took in this run. Trainings that no other came before are judged by the trainings that are over, in proportion to
what they compute; until there is one, no time is given.
"""

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from coda.progress import duration

EVERY = 20.0  # seconds between lines


@dataclass(frozen=True)
class Job:
    """A job that is not done.

    Attributes
    ----------
    rule : str
        What it is an instance of.
    threads : int
        Cores that it takes.
    ran : float
        Seconds since it began; 0 if it waits.
    after : tuple of int
        Numbers of the jobs that wait for it.
    """

    rule: str
    threads: int = 1
    ran: float = 0.0
    after: tuple[int, ...] = ()


def network_work(config: Mapping[str, Any]) -> dict[str, float]:
    """Say what each kind of training computes: passes of the network over each site of a source.

    A step forwards and back counts as three passes. DINO's student sees all views so, its teacher the two global ones
    forwards; a task model learns on tokens that are computed anew in each epoch.
    """
    views = config["views"]
    local = views["local_count"] * (views["local_size"] / views["global_size"]) ** 2
    dino = 3 * (2 + local) + 2
    adapt, classify = config["adapt"]["epochs"] * dino, config["classify"]["epochs"] * (1 + 3)
    return {
        "pretrain_foundation": config["pretrain"]["epochs"] * dino,
        "train_classifier": classify,
        "train_shuffled": classify,
        "train_known_compounds": classify,
        "train_supervised": config["supervise"]["epochs"] * 3,
        "adapt_foundation": adapt,
        "adapt_to_plates": adapt,
        "adapt_to_mix": adapt,
    }


def seconds_left(
    jobs: Mapping[int, Job], took: Mapping[str, list[float]], work: Mapping[str, float], cores: int
) -> float | None:
    """Estimate how long the jobs that are not done still take.

    Parameters
    ----------
    jobs
        Those jobs by their numbers.
    took
        Seconds that jobs took in this run, by rule.
    work
        What `network_work` gives.
    cores
        Cores that the jobs share.

    Returns
    -------
    float or None
        Seconds, by the cores' time or by the longest chain of jobs, whichever is more; None if there is nothing to
        judge a training by.
    """
    done = {rule: mean(times) for rule, times in took.items() if times}
    trained = [rule for rule in done if rule in work]
    others = [seconds for rule, seconds in done.items() if rule not in work]
    unknown = {job.rule for job in jobs.values()} - set(done)
    if unknown & set(work) and not trained:
        return None
    rate = sum(done[rule] for rule in trained) / max(sum(work[rule] for rule in trained), 1e-9)
    usual = mean(others) if others else 0.0
    expected = done | {rule: work[rule] * rate if rule in work else usual for rule in unknown}
    left = {number: max(0.0, expected[job.rule] - job.ran) for number, job in jobs.items()}
    chains: dict[int, float] = {}

    def chain(number: int) -> float:
        if number not in chains:
            behind = (chain(other) for other in jobs[number].after if other in jobs)
            chains[number] = left[number] + max(behind, default=0.0)
        return chains[number]

    shared = sum(left[number] * min(job.threads, cores) for number, job in jobs.items()) / cores
    return max([shared, *map(chain, jobs)], default=0.0)


class RunProgress(logging.Handler):
    """Listen to Snakemake's own messages, and say now and then how far the run has come.

    Parameters
    ----------
    to_do
        Gives the jobs that are not done, by their numbers, with when they began (0 in `Job.ran` for those that wait).
    work
        What `network_work` gives.
    cores
        Cores that jobs share; None where they run on other machines, and no time is told.
    """

    def __init__(
        self,
        to_do: Callable[[], Iterable[tuple[int, Job]]],
        work: Mapping[str, float],
        cores: int | None,
    ):
        super().__init__()
        self.to_do, self.work, self.cores = to_do, work, cores
        self.rules: dict[int, str] = {}
        self.begun: dict[int, float] = {}
        self.took: dict[str, list[float]] = defaultdict(list)
        self.start: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Note which jobs begin and end."""
        event, now = str(getattr(record, "event", "")), time.monotonic()
        if event == "job_info":
            self.rules[record.jobid] = record.rule_name
        elif event == "job_started":
            self.begun |= dict.fromkeys(record.jobs, now)
            if self.start is None:
                self.start = now
                threading.Thread(target=self._tell_now_and_then, daemon=True).start()
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
            jobs = {
                number: Job(job.rule, job.threads, now - begun.get(number, now), job.after)
                for number, job in self.to_do()
            }
        except RuntimeError:  # changed while it was read
            return None
        done = sum(map(len, self.took.values()))
        if not jobs or not done:
            return None
        told = f"Whole run: {done} of {done + len(jobs)} jobs, {duration(now - self.start)}"
        left = seconds_left(jobs, dict(self.took), self.work, self.cores) if self.cores else None
        return told if left is None else f"{told}, about {duration(left)} left"

    def _tell_now_and_then(self) -> None:
        while True:
            time.sleep(EVERY)
            if line := self.line():
                print(line, file=sys.stderr, flush=True)


def jobs_of(dag: Any) -> Iterable[tuple[int, Job]]:
    """Give the jobs of a Snakemake run that are not done."""
    for job in list(dag.needrun_jobs()):
        after = tuple(other.jobid for other in dag.depending[job])
        yield job.jobid, Job(job.rule.name, job.threads, after=after)
