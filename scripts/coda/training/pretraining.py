"""Steps 1 and 3 of the protocol: DINO training of a foundation, from scratch or from another lab's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.progress import Progress
from coda.training.adaptation_data import mixed_order
from coda.training.checkpoints import StateFolder, StateSaver
from coda.training.compute import derive_seed, peak_memory
from coda.training.dino_trainer import DinoLearner
from coda.training.loader import Loader
from coda.training.networks import load_tensors
from coda.training.partners import Partners
from coda.training.settings import DinoSettings, WatchSettings
from coda.training.trainer import Interruption, Stopwatch, check_learning, check_loss
from coda.training.training_log import facts
from coda.training.views import ViewDraw, draw_view


def steps_per_epoch(sites: int, settings: DinoSettings, ranks: int, section: str) -> int:
    """Count the full batches of an epoch.

    Raises
    ------
    UserError
        If there is not one, or a batch cannot be split over processes and parts; it names the keys of the
        config's `section`.
    """
    batch, parts = settings.batch_size, settings.accumulate
    if batch % (ranks * parts):
        raise UserError(
            f"{section}.batch_size ({batch}) cannot be split over {ranks} GPU(s) (compute.gpus) in {parts} part(s) "
            f"({section}.accumulate) each; make it a multiple of {ranks * parts}."
        )
    if sites < batch:
        raise UserError(
            f"{section}.batch_size ({batch}) is larger than the {sites} sites to train on; lower it."
        )
    return sites // batch


@dataclass
class DinoTraining:
    """A DINO training that can be left at any step and taken up again.

    All randomness follows from the seed and the number of the step, so a state needs no generator:
    the same step gives the same batch, partners, views and stochastic depth.

    Attributes
    ----------
    learner
        Student, teacher and optimiser.
    store, sites
        The crops, and the rows to train on.
    partners
        The cross-batch partners among `sites`, by position in `sites`.
    threads
        Threads that gather crops.
    validate
        Gives the accuracy of the teacher's foundation on labelled validation sites; the best weights
        are kept by it. None keeps the last, without a look at any label.
    validate_every
        Epochs between its calls.
    watch
        How often states are saved, and how long a collapse is looked at.
    groups
        Positions in `sites` that take turns within a batch (`coda.training.adaptation_data`); all as one by default.
    """

    learner: DinoLearner
    store: CropStore
    sites: np.ndarray
    partners: Partners
    threads: int = 1
    validate: Callable[[], float] | None = None
    validate_every: int = 1
    watch: WatchSettings = field(default_factory=WatchSettings)
    log: list[dict[str, Any]] = field(default_factory=list)
    groups: list[np.ndarray] | None = None

    def run(
        self,
        states: StateFolder,
        what: str,
        report: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        """Train from the newest state to the last epoch; `report` gets the log at once and after each epoch."""
        learner, settings = self.learner, self.learner.settings
        saver = StateSaver(states, self.watch.save_minutes)
        self._resume(saver, what)
        batch, first = settings.batch_size, learner.compute.rank == 0
        # Snakemake has removed the log of a job that was stopped, and perhaps no epoch is left to write it.
        if first and self.log:
            report(self.log)
        progress = Progress(what, learner.steps * batch, "samples", done=learner.step * batch)
        loader = Loader(self.store, self.plan(), learner.compute.device, self.threads)
        clock = Stopwatch(loader)
        with Interruption().watched() as interruption:
            for sites, draws in loader:
                learner.train_step(sites, draws)
                clock.samples += batch
                epoch, done = divmod(learner.step, learner.steps_per_epoch)
                if done == 0:
                    row = self._end_epoch(epoch, clock)
                    check_learning([*self.log, row], learner.head.prototypes, self.watch.patience)
                    self._judge(saver, row)
                    self.log.append(row)
                    if first:
                        report(self.log)
                    progress.facts |= {"epoch": f"{epoch}/{settings.epochs}"} | facts(row)
                    clock.restart()
                asked = interruption.agreed()
                if first:
                    progress.update(batch)
                    if asked or learner.step == learner.steps or saver.due(done == 0):
                        check_loss(learner.means.so_far(), epoch + 1)
                        saver.save(learner.step, learner.state(), self.log)
                if asked:
                    interruption.leave(what)

    def plan(self) -> Iterator[tuple[np.ndarray, tuple[list[ViewDraw], list[ViewDraw]]]]:
        """Choose sites, partners and views of each step to come: this rank's part of the choice.

        Yields
        ------
        int64 array, shape (2, batch / ranks)
            Rows of the store: the sites, and their partners.
        tuple of lists of ViewDraw
            Random numbers of the two global views, and of the local ones.
        """
        learner, compute = self.learner, self.learner.compute
        batch = learner.settings.batch_size
        part = slice(*(batch * (compute.rank + end) // compute.ranks for end in range(2)))
        kinds = ((2, True), (learner.views.local_count, False))
        groups = self.groups or [np.arange(len(self.sites))]
        for step in range(learner.step, learner.steps):
            epoch, number = divmod(step, learner.steps_per_epoch)
            if number == 0 or step == learner.step:
                order = mixed_order(groups, learner.seed, epoch)
            chosen = order[number * batch : (number + 1) * batch]
            seed = derive_seed(learner.seed, step)
            partner = self.partners.draw(chosen, np.random.default_rng(seed))
            generator = torch.Generator().manual_seed(seed)
            draws = [
                [
                    draw_view(batch, learner.channels, learner.views, generator, is_global)
                    .part(part)
                    .to(compute.device)
                    for _ in range(count)
                ]
                for count, is_global in kinds
            ]
            yield self.sites[np.stack([chosen, partner])[:, part]], tuple(draws)

    def _end_epoch(self, epoch: int, clock: Stopwatch) -> dict[str, Any]:
        """Make the epoch's row of the log, averaged over processes."""
        learner, compute = self.learner, self.learner.compute
        means = learner.means.take()
        if compute.ranks > 1:
            values = torch.tensor(list(means.values()), device=compute.device)
            dist.all_reduce(values)
            means = dict(zip(means, (values / compute.ranks).tolist(), strict=True))
        row = {"epoch": epoch, "step": learner.step} | means
        row |= {"centre_norm": float(learner.centre.norm())}
        row |= {"learning_rate": learner.learning_rate()}
        return row | clock.lap() | {"memory_gib": peak_memory(compute.device)}

    def _judge(self, saver: StateSaver, row: dict[str, Any]) -> None:
        """Look at the validation plate, where there is one, and keep the best weights so far."""
        epoch = row["epoch"]
        due = epoch % self.validate_every == 0 or epoch == self.learner.settings.epochs
        if self.validate is None or not due or self.learner.compute.rank != 0:
            return
        row["knn_accuracy"] = self.validate()
        saver.judge(row["knn_accuracy"], self.learner.tensors(), {"epoch": epoch})

    def result(self, states: StateFolder) -> dict[str, torch.Tensor]:
        """Give student, teacher and centre: the best by validation, or the last without one."""
        return self.learner.tensors() if self.validate is None else load_tensors(states.best)

    def _resume(self, saver: StateSaver, what: str) -> None:
        loaded = saver.load()
        if loaded is None:
            return
        tensors, header = loaded
        self.learner.load_state(tensors, header["step"])
        self.log = header["log"]
        step, steps = self.learner.step, self.learner.steps
        print(f"{what}: goes on from the state after step {step} of {steps}.", flush=True)
