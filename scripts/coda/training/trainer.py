"""The one training loop: from the newest saved state to the last step, leaving when asked to.

What is trained is a `Learner` (`coda.training.dino_trainer`, `coda.training.classifier_trainer`); what it
sees are `Batches`; what chooses the epoch to keep is a `Judge`.
"""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
import torch.distributed as dist

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.progress import Progress
from coda.training.checkpoints import StateFolder, StateSaver, load_state
from coda.training.compute import Compute, peak_memory
from coda.training.distributed import PREEMPTED, note_stop
from coda.training.loader import Loader
from coda.training.settings import TrainingSettings, WatchSettings
from coda.training.training_log import facts


@dataclass(kw_only=True)
class Learner:
    """Networks that learn step by step, and all that a step needs to be taken again.

    All randomness follows from the seed and the number of the step, so a state needs no generator:
    the same step gives the same batch, views and stochastic depth.

    Attributes
    ----------
    compute, settings, seed
        Device and precision, the training's settings, and the seed of all randomness.
    steps_per_epoch : int
        Steps that show every site once.
    step : int
        Steps taken.
    means : Means
        Loss and whatever else is watched, since the last end of an epoch.
    """

    compute: Compute
    settings: TrainingSettings
    seed: int
    steps_per_epoch: int
    step: int = 0

    def __post_init__(self) -> None:
        """Count the steps."""
        self.steps, self.means = self.settings.epochs * self.steps_per_epoch, Means()

    def samples_after(self, step: int) -> int:
        """Count the samples that all processes have seen after `step` steps."""
        return step * self.settings.batch_size

    def prepared(self, batches: Iterable[tuple[torch.Tensor, Any]]) -> Iterator[tuple[Any, ...]]:
        """Give what `train_step` takes, for each batch to come."""
        yield from batches

    def train_step(self, sites: torch.Tensor, rest: Any) -> None:
        """Take one step on uint8 `sites`; `rest` is what else the batch has."""
        raise NotImplementedError

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        raise NotImplementedError

    def watched(self) -> dict[str, float]:
        """Give what the log has of the end of an epoch, beside the means of its steps."""
        return {"learning_rate": self.learning_rate()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give the weights that the training is for, as they are."""
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """Give all that the next step depends on."""
        raise NotImplementedError

    def load_state(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Go back to a state that was saved after `step` steps."""
        raise NotImplementedError


class Batches(Protocol):
    """The batches of a training."""

    store: CropStore

    def plan(self, learner: Learner) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield rows of the store, and what else belongs to the batch, for each step that `learner` has not taken."""


@dataclass(frozen=True)
class Judge:
    """What chooses the epoch to keep, by labelled sites of the held-out plate.

    Attributes
    ----------
    column : str
        Name of the score in the log.
    score : callable
        Gives the score of the weights as they are, 0 or more; the highest is the best.
    every : int
        Epochs between its calls.
    """

    column: str
    score: Callable[[], float]
    every: int = 1


def check_loss(means: dict[str, float], epoch: int) -> None:
    """Stop a training whose loss in `epoch`, if `means` has it yet, is not a number any more.

    Raises
    ------
    UserError
        If so: whatever is saved from then on is lost too.
    """
    loss = means.get("loss", 0.0)
    if not math.isfinite(loss):
        raise UserError(
            f"The loss became {loss} in epoch {epoch}; lower the learning rate, "
            "or set compute.precision to fp32."
        )


@dataclass
class Trainer:
    """A training that can be left at any step and taken up again.

    Attributes
    ----------
    learner, batches
        What learns, and from what.
    judge
        Chooses the epoch to keep; None keeps the last, without a look at any label.
    alarm
        Looks at the log after each epoch, the last row being new, and raises where it is no use to go on.
    threads
        Threads that gather crops.
    watch
        How often states are saved.
    log
        One row an epoch.
    """

    learner: Learner
    batches: Batches
    judge: Judge | None = None
    alarm: Callable[[list[dict[str, Any]]], None] = lambda log: None
    threads: int = 1
    watch: WatchSettings = field(default_factory=WatchSettings)
    log: list[dict[str, Any]] = field(default_factory=list)

    def run(
        self, states: StateFolder, what: str, report: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        """Train from the newest state to the last epoch.

        Parameters
        ----------
        states
            Where states are saved.
        what
            Name for progress lines.
        report
            Gets the log at once, if there is one, and after each epoch; in the first process only.

        Raises
        ------
        UserError
            If the loss is no number, or `alarm` finds the training of no use.
        SystemExit
            With status 75 once asked to stop.
        """
        learner, first = self.learner, self.learner.compute.rank == 0
        saver = StateSaver(states, self.watch.save_minutes)
        self._resume(saver, states, what)
        # Snakemake has removed the log of a job that was stopped, and perhaps no epoch is left to write it.
        if first and self.log:
            report(self.log)
        seen, total = (learner.samples_after(step) for step in (learner.step, learner.steps))
        progress = Progress(what, total, "samples", done=seen)
        loader = Loader(
            self.batches.store, self.batches.plan(learner), learner.compute.device, self.threads
        )
        clock = Stopwatch(loader)
        with Interruption().watched() as interruption:
            for batch in learner.prepared(loader):
                learner.train_step(*batch)
                before, seen = seen, learner.samples_after(learner.step)
                clock.samples += seen - before
                epoch, done = divmod(learner.step, learner.steps_per_epoch)
                if done == 0:
                    row = self._end_epoch(epoch, clock)
                    if first:
                        self._judge(saver, row)
                    self.log.append(row)
                    if first:
                        report(self.log)
                    progress.facts |= {"epoch": f"{epoch}/{learner.settings.epochs}"} | facts(row)
                    clock.restart()
                asked = interruption.agreed()
                if first:
                    progress.update(seen - before)
                    if asked or learner.step == learner.steps or saver.due(done == 0):
                        check_loss(learner.means.so_far(), epoch + 1)
                        saver.save(learner.step, learner.state(), self.log)
                if asked:
                    interruption.leave(what)

    def best(self, states: StateFolder) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Give the weights to keep, and their epoch's row of the log."""
        if self.judge is None:
            return self.learner.tensors(), self.log[-1]
        tensors, header = load_state(states.best)
        return tensors, self.log[header["epoch"] - 1]

    def _resume(self, saver: StateSaver, states: StateFolder, what: str) -> None:
        first, loaded = self.learner.compute.rank == 0, saver.load()
        if loaded is None:
            for difference in states.set_aside() if first else ():
                print(
                    f"{what}: found a saved state {difference}; it is set aside, and the training "
                    f"begins anew in {self.learner.compute.precision}.",
                    flush=True,
                )
            return
        tensors, header = loaded
        try:
            self.learner.load_state(tensors, header["step"])
        except (KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
            # The networks hold a part of it now, so this process cannot go on from another one.
            if first:
                states.drop_newest()
            raise UserError(
                f"{what}: the state after step {header['step']} does not fit this program ({error!r}) and is removed; "
                "start again, which goes on from the one before or begins anew."
            ) from error
        self.log = header["log"]
        step, steps = self.learner.step, self.learner.steps
        if first:
            print(f"{what}: goes on from the state after step {step} of {steps}.", flush=True)

    def _end_epoch(self, epoch: int, clock: "Stopwatch") -> dict[str, Any]:
        """Make the epoch's row of the log, averaged over processes, and look at it."""
        learner, compute = self.learner, self.learner.compute
        means = learner.means.take()
        if compute.ranks > 1:
            values = torch.tensor(list(means.values()), device=compute.device)
            dist.all_reduce(values)
            means = dict(zip(means, (values / compute.ranks).tolist(), strict=True))
        row = {"epoch": epoch, "step": learner.step} | means | learner.watched()
        row |= clock.lap() | {"memory_gib": peak_memory(compute.device)}
        check_loss(row, epoch)
        self.alarm([*self.log, row])
        return row

    def _judge(self, saver: StateSaver, row: dict[str, Any]) -> None:
        """Look at the held-out plate, where it is time to, and keep the best weights so far."""
        judge, epoch = self.judge, row["epoch"]
        if judge and (epoch % judge.every == 0 or epoch == self.learner.settings.epochs):
            row[judge.column] = judge.score()
            saver.judge(row[judge.column], self.learner.tensors(), {"epoch": epoch})


class Means:
    """Running means of scalars that stay on the device until they are asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, **scalars: torch.Tensor) -> None:
        """Add one step's scalars."""
        self.count += 1
        for name, scalar in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + scalar.detach()

    def so_far(self) -> dict[str, float]:
        """Give the means since they were last taken, and go on."""
        return {name: float(total) / self.count for name, total in self.sums.items()}

    def take(self) -> dict[str, float]:
        """Give the means since the last call, and start again."""
        means = self.so_far()
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict[str, torch.Tensor]:
        """Give the sums as tensors, for a training state."""
        sums = {f"means.{name}": total.reshape(1) for name, total in self.sums.items()}
        return sums | {"means.count": torch.tensor([self.count])}

    def load(self, tensors: dict[str, torch.Tensor], device: torch.device) -> None:
        """Take the sums back from the tensors of a training state."""
        sums = {
            name.removeprefix("means."): value
            for name, value in tensors.items()
            if name.startswith("means.")
        }
        self.count = int(sums.pop("count"))
        self.sums = {name: value[0].to(device) for name, value in sums.items()}


class Stopwatch:
    """Rate of a training and its share of waiting, from one lap to the next.

    It counts the samples it saw, so the first lap of a training that goes on within an epoch is right.
    """

    def __init__(self, loader: Loader):
        self.loader = loader
        self.restart()

    def restart(self) -> None:
        """Begin a lap."""
        self.start, self.samples, self.loader.waited = time.monotonic(), 0, 0.0

    def lap(self) -> dict[str, float]:
        """Give samples a second and the share of time waiting for data since the lap began."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        return {
            "samples_per_second": self.samples / seconds,
            "waiting_share": min(1.0, self.loader.waited / seconds),
        }


def any_rank(mine: bool, group: dist.ProcessGroup | None) -> bool:
    """Whether something is so in any of the processes of a group; without one, in this process."""
    if group is None:
        return mine
    flag = torch.tensor([int(mine)])
    dist.all_reduce(flag, group=group)
    return bool(flag)


class Interruption:
    """Notes SIGTERM, which a cluster sends before it takes a machine back, for the loop to see.

    Processes that train together may get the signal at different steps, or only one of them may, so
    they agree: all leave after the same step, once its state is saved.
    """

    def __init__(self) -> None:
        self.asked = False
        # On the CPU, beside the GPUs' own group: asking must not wait for what a GPU still computes.
        self.group = dist.new_group(backend="gloo") if dist.is_initialized() else None

    def agreed(self) -> bool:
        """Whether any of the processes was asked to stop; all of them must call this."""
        return any_rank(self.asked, self.group)

    @contextmanager
    def watched(self) -> Iterator["Interruption"]:
        """Note the signal instead of dying from it, while the block runs."""

        def note(number: int, frame: object) -> None:
            self.asked = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def leave(self, what: str) -> NoReturn:
        """End the process with the status that means: start me again."""
        if self.group is None or dist.get_rank() == 0:
            print(
                f"{what}: asked to stop; the state is saved, and the next start goes on from it.",
                flush=True,
            )
            note_stop()
        if self.group is not None:
            # The first process to end takes the others with it, so none may leave before all this is done.
            dist.barrier(group=self.group)
        raise SystemExit(PREEMPTED)
