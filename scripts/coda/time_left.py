"""How long the jobs of a run that are not done still take.

What a job takes is what jobs of its rule took in this run. Trainings that no other came before are judged by the
trainings that are over, and by what one that runs says in its log, in proportion to what they compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from statistics import mean
from typing import Any


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
    stage : str
        The part of the workflow that it belongs to.
    log : str
        Its log; empty without one.
    left : float or None
        Seconds that it says it still takes.
    whole : float or None
        Seconds from its start to its end, if what it says is right.
    """

    rule: str
    threads: int = 1
    ran: float = 0.0
    after: tuple[int, ...] = ()
    stage: str = ""
    log: str = ""
    left: float | None = None
    whole: float | None = None


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
        "adapt_to_consensus": config["adapt"]["epochs"] * 3,
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
    others = [seconds for rule, seconds in done.items() if rule not in work]
    done |= {job.rule: job.whole for job in jobs.values() if job.whole and job.rule not in done}
    trained = [rule for rule in done if rule in work]
    unknown = {job.rule for job in jobs.values()} - set(done)
    if unknown & set(work) and not trained:
        return None
    rate = sum(done[rule] for rule in trained) / max(sum(work[rule] for rule in trained), 1e-9)
    usual = mean(others) if others else 0.0
    expected = done | {rule: work[rule] * rate if rule in work else usual for rule in unknown}

    def rest(job: Job) -> float:
        # What a training says is better than the mean; other jobs speak of the part of them that is at work.
        if job.left is not None and (job.rule in work or not took.get(job.rule)):
            return job.left
        return max(0.0, expected[job.rule] - job.ran)

    left = {number: rest(job) for number, job in jobs.items()}
    chains: dict[int, float] = {}

    def chain(number: int) -> float:
        if number not in chains:
            behind = (chain(other) for other in jobs[number].after if other in jobs)
            chains[number] = left[number] + max(behind, default=0.0)
        return chains[number]

    shared = sum(left[number] * min(job.threads, cores) for number, job in jobs.items()) / cores
    return max([shared, *map(chain, jobs)], default=0.0)


class SteadyEnd:
    """When a run ends, by estimates of which each alone jumps.

    The end that is told moves towards each estimate, half of the way in `halfway` seconds.
    """

    halfway = 40.0

    def __init__(self) -> None:
        self.end: float | None = None
        self.last = 0.0

    def left(self, now: float, seconds: float) -> float:
        """Take in that `seconds` are left at time `now`; give how many to tell."""
        estimate = now + seconds
        if self.end is None:
            self.end = estimate
        weight = 1 - 0.5 ** ((now - self.last) / self.halfway)
        self.end += weight * (estimate - self.end)
        self.last = now
        return max(0.0, self.end - now)


def roughly(seconds: float) -> str:
    """Write a length of time as precisely as it can be known ahead.

    >>> roughly(20), roughly(100), roughly(3000), roughly(7400)
    ('less than a minute', '2 min', '50 min', '2 h 5 min')
    """
    minutes = ceil(seconds / 60)
    if seconds < 50:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    minutes = 5 * round(minutes / 5)
    return f"{minutes // 60} h {minutes % 60} min"
