"""Step 2 of the protocol, and the supervised baseline: training a classifier on labelled sites."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.progress import Progress
from coda.training.checkpoints import (
    StateFolder,
    StateSaver,
    load_optimizer,
    optimizer_tensors,
    prefixed,
    unprefixed,
)
from coda.training.compute import Compute, derive_seed, peak_memory, seed_everything
from coda.training.inference import apply_to_sites
from coda.training.loader import Loader, epoch_order
from coda.training.networks import load_tensors
from coda.training.optim import warmup_constant
from coda.training.settings import TaskSettings, ViewSettings, WatchSettings
from coda.training.trainer import (
    Interruption,
    Means,
    Stopwatch,
    check_loss,
    decay_groups,
    step_optimizer,
)
from coda.training.training_log import facts
from coda.training.views import ViewDraw, draw_view, make_view


@dataclass(frozen=True)
class Labelled:
    """Sites with classes.

    Attributes
    ----------
    store : CropStore
    sites : int64 array, shape (n,)
        Rows of the store.
    classes : int64 array, shape (n,)
        Class numbers.
    """

    store: CropStore
    sites: np.ndarray
    classes: np.ndarray


@dataclass
class ClassifierTraining:
    """Training of the trainable part of a classifier, kept at its best validation accuracy.

    Attributes
    ----------
    train, validation
        Sites of the training source, and of its validation plate.
    features
        Maps views to what the classifier takes: the frozen foundation's tokens, or the views.
    classifier
        The network to train.
    watch
        How often states are saved.
    """

    train: Labelled
    validation: Labelled
    features: Callable[[torch.Tensor], torch.Tensor]
    classifier: nn.Module
    compute: Compute
    settings: TaskSettings
    views: ViewSettings
    seed: int
    threads: int = 1
    watch: WatchSettings = field(default_factory=WatchSettings)
    log: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the optimiser and count the steps."""
        batch = self.settings.batch_size
        if not len(self.train.sites) or not len(self.validation.sites):
            raise UserError(
                "There are no labelled sites to train or validate on; check sources and labels in the config."
            )
        self.steps_per_epoch = -(-len(self.train.sites) // batch)
        self.steps = self.settings.epochs * self.steps_per_epoch
        groups, decay = decay_groups([self.classifier]), self.settings.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=decay, fused=True)
        self.run_view = self.compute.compiled(make_view)
        self.run_logits = self.compute.compiled(self._logits)
        self.means, self.step = Means(), 0

    def _logits(self, views: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(views))

    def run(
        self,
        states: StateFolder,
        what: str,
        report: Callable[[list[dict[str, Any]]], None],
    ) -> dict[str, torch.Tensor]:
        """Train from the newest state to the last epoch and give the best weights by validation."""
        saver = StateSaver(states, self.watch.save_minutes)
        self._resume(saver, what)
        # Snakemake has removed the log of a job that was stopped, and perhaps no epoch is left to write it.
        if self.log:
            report(self.log)
        progress = Progress(what, self.steps, "steps", done=self.step)
        loader = Loader(self.train.store, self._plan(self.step), self.compute.device, self.threads)
        clock = Stopwatch(loader)
        with Interruption().watched() as interruption:
            for sites, (classes, draw) in loader:
                self.train_step(sites, classes, draw)
                clock.samples += len(classes)
                epoch, done = divmod(self.step, self.steps_per_epoch)
                if done == 0:
                    row = self._end_epoch(epoch, clock)
                    weights, header = self.classifier.state_dict(), {"epoch": epoch}
                    saver.judge(row["validation_accuracy"], weights, header)
                    self.log.append(row)
                    report(self.log)
                    progress.facts = {"epoch": f"{epoch}/{self.settings.epochs}"} | facts(row)
                    clock.restart()
                progress.update()
                asked = interruption.asked
                if asked or self.step == self.steps or saver.due(done == 0):
                    check_loss(self.means.so_far(), epoch + 1)
                    saver.save(self.step, self._state(), self.log)
                if asked:
                    interruption.leave(what)
        return load_tensors(states.best)

    def _end_epoch(self, epoch: int, clock: Stopwatch) -> dict[str, Any]:
        """Make the epoch's row of the log, with a look at the validation sites."""
        row = {"epoch": epoch, "step": self.step} | self.means.take()
        check_loss(row, epoch)
        row |= {"learning_rate": self._learning_rate()} | clock.lap()
        row |= {"validation_accuracy": self.validation_accuracy()}
        return row | {"memory_gib": peak_memory(self.compute.device)}

    def _plan(self, first: int) -> Iterator[tuple[np.ndarray, tuple[torch.Tensor, ViewDraw]]]:
        batch, channels = self.settings.batch_size, len(self.train.store.channels)
        for step in range(first, self.steps):
            epoch, number = divmod(step, self.steps_per_epoch)
            order = epoch_order(np.arange(len(self.train.sites)), self.seed, epoch)
            chosen = order[number * batch : (number + 1) * batch]
            generator = torch.Generator().manual_seed(derive_seed(self.seed, step))
            draw = draw_view(len(chosen), channels, self.views, generator).to(self.compute.device)
            classes = torch.from_numpy(self.train.classes[chosen]).to(self.compute.device)
            yield self.train.sites[chosen], (classes, draw)

    def train_step(self, sites: torch.Tensor, classes: torch.Tensor, draw: ViewDraw) -> None:
        """Take one step on uint8 `sites` (N, C, H, W) with class numbers (N,)."""
        seed_everything(self.seed, self.step)
        self.classifier.train()
        view = self.run_view(sites, draw, self.views.global_size, self.views)
        with self.compute.autocast():
            loss = F.cross_entropy(self.run_logits(view).float(), classes)
        loss.backward()
        step_optimizer(
            self.optimizer, self._learning_rate(), self.settings.weight_decay, self.settings.clip
        )
        self.means.add(loss=loss)
        self.step += 1

    def _learning_rate(self) -> float:
        return warmup_constant(
            self.step,
            self.settings.warmup_epochs * self.steps_per_epoch,
            self.settings.learning_rate,
        )

    def validation_accuracy(self) -> float:
        """Share of the validation sites, each looked at once, whose class is right."""
        self.classifier.eval()
        inputs = dict(
            store=self.validation.store, sites=self.validation.sites, size=self.views.global_size
        )
        (logits,) = apply_to_sites(
            lambda views: (self._logits(views),),
            compute=self.compute,
            threads=self.threads,
            **inputs,
        )
        return float((logits.argmax(dim=1).numpy() == self.validation.classes).mean())

    def _state(self) -> dict[str, torch.Tensor]:
        state = prefixed("classifier", self.classifier.state_dict())
        return state | prefixed("optimizer", optimizer_tensors(self.optimizer)) | self.means.state()

    def _resume(self, saver: StateSaver, what: str) -> None:
        loaded = saver.load()
        if loaded is None:
            return
        tensors, header = loaded
        self.classifier.load_state_dict(unprefixed("classifier", tensors))
        load_optimizer(self.optimizer, unprefixed("optimizer", tensors))
        self.means.load(tensors, self.compute.device)
        self.step, self.log = header["step"], header["log"]
        print(f"{what}: goes on from the state after step {self.step} of {self.steps}.", flush=True)
