"""Progress as lines of text: readable in a terminal, in a log file and with several jobs at once."""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Progress:
    """Report regularly how far a long task has come and how long it will still take.

    Progress bars are unreadable in log files and when jobs run side by side, so this prints a line
    every few seconds: the task, units done of the total, facts, rate and time left.

    Parameters
    ----------
    what
        The task in a few words, for example ``"download source_3 JCPQC016"``.
    total
        Number of units of work.
    unit
        Name of the unit, for example ``"sites"``.
    done
        Units done before, in a resumed task.
    every
        Seconds between lines.

    Attributes
    ----------
    facts : dict
        Numbers or words shown in every line.

    Examples
    --------
    >>> progress = Progress("crops source_3 JCPQC016", total=3456, unit="sites")
    >>> progress.update(16, lost=0)
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0, every: float = 10.0):
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.done = self.before = done
        self.start = self.last = time.monotonic()
        self.facts: dict[str, object] = {}

    def update(self, amount: int = 1, **facts: object) -> None:
        """Count `amount` more units as done; `facts` (numbers or words) are shown in the line."""
        self.done += amount
        facts = self.facts | facts
        now = time.monotonic()
        if now - self.last >= self.every or self.done == self.total:
            self.last = now
            rate = (self.done - self.before) / max(now - self.start, 1e-9)
            left = (self.total - self.done) / max(rate, 1e-9)
            told = [
                f"{name} {fact:.4g}" if isinstance(fact, float) else f"{name} {fact}"
                for name, fact in facts.items()
            ]
            ending = (
                f"{duration(left)} left"
                if self.done < self.total
                else f"took {duration(now - self.start)}"
            )
            parts = [
                f"{self.done:,}/{self.total:,} {self.unit}",
                *told,
                f"{rate:,.3g} {self.unit}/s",
                ending,
            ]
            print(f"{self.what}: {', '.join(parts)}", file=sys.stderr, flush=True)


def track(items: Iterable[Item], what: str, total: int, unit: str) -> Iterator[Item]:
    """Yield `items` one by one and report progress."""
    progress = Progress(what, total, unit)
    for item in items:
        yield item
        progress.update()


def duration(seconds: float) -> str:
    """Write a length of time: ``"48 s"``, ``"3 min 20 s"`` or ``"2 h 5 min"``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


SAID = re.compile(
    r": (?P<done>[\d,]+)/(?P<total>[\d,]+) .*?(?:(?P<h>\d+) h )?(?:(?P<min>\d+) min)? ?(?:(?P<s>\d+) s)? left$"
)


def said_left(line: str) -> tuple[float, float] | None:
    """Read a line of `Progress`: the share that is done, and the seconds left; None if it is no such line.

    >>> said_left("pretrain source_5: 1,280/11,520 samples, epoch 2/18, 7.56 samples/s, 22 min 34 s left")
    (0.1111111111111111, 1354.0)
    """
    found = SAID.search(line)
    if not found:
        return None
    done, total = (int(found[name].replace(",", "")) for name in ("done", "total"))
    hours, minutes, seconds = (float(found[name] or 0) for name in ("h", "min", "s"))
    return done / max(total, 1), 3600 * hours + 60 * minutes + seconds
