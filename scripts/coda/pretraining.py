"""Steps 1 and 3 of the protocol: DINO training of a foundation, from scratch or from another lab's."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from coda.checkpoints import (
    StateFolder,
    load_optimizer,
    optimizer_tensors,
    prefixed,
    save_weights,
    unprefixed,
)
from coda.compute import Compute, derive_seed, seed_everything
from coda.dino import DinoHead, DinoNetwork, dino_loss, update_centre, update_teacher
from coda.errors import UserError
from coda.loader import Loader, epoch_order
from coda.models import build_foundation, load_tensors
from coda.partners import Partners
from coda.progress import Progress
from coda.schedules import cosine, ramp, warmup_cosine
from coda.settings import DinoSettings, HeadSettings, ModelSettings, ViewSettings
from coda.store import CropStore
from coda.training import CollapseAlarm, Interruption, Means, decay_groups, step_optimizer
from coda.views import ViewDraw, draw_view, make_view


@dataclass
class DinoTraining:
    """A DINO training that can be left at any step and taken up again.

    All randomness follows from the seed and the number of the step, so a state needs no generator:
    the same step gives the same batch, partners, views and stochastic depth.

    Attributes
    ----------
    store, sites
        The crops, and the rows to train on.
    partners
        The cross-batch partners among `sites`, by position in `sites`.
    validate
        Maps the teacher's foundation to an accuracy on labelled validation sites; the best weights
        are kept by it. None keeps the last, without a look at any label.
    start
        Tensors of an earlier training (student, teacher and centre) to go on from.
    """

    store: CropStore
    sites: np.ndarray
    partners: Partners
    compute: Compute
    settings: DinoSettings
    model: ModelSettings
    head: HeadSettings
    views: ViewSettings
    seed: int
    threads: int = 1
    start: dict[str, torch.Tensor] | None = None
    validate: Callable[[nn.Module], float] | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    best: float = -1.0

    def __post_init__(self) -> None:
        """Build student, teacher and optimiser."""
        batch, parts = self.settings.batch_size, self.compute.ranks * self.settings.accumulate
        if batch % parts:
            raise UserError(
                f"batch_size {batch} cannot be split over {parts} parts (GPUs x accumulate)."
            )
        if len(self.sites) < batch:
            raise UserError(
                f"batch_size {batch} is larger than the {len(self.sites)} sites to train on; lower it."
            )
        self.steps_per_epoch = len(self.sites) // batch
        self.steps = self.settings.epochs * self.steps_per_epoch
        seed_everything(self.seed)
        self.student, self.teacher = self._network(self.settings.drop_path), self._network(0.0)
        self.teacher.load_state_dict(self.student.state_dict())
        self.centre = torch.zeros(self.head.prototypes, device=self.compute.device)
        self.teacher_mean = torch.zeros_like(self.centre)
        if self.start is not None:
            self._load_networks(self.start)
        self.teacher.requires_grad_(False)
        fused = {"fused": True} if self.compute.device.type == "cuda" else {"foreach": True}
        self.optimizer = torch.optim.AdamW(
            decay_groups([self.student]), lr=0.0, weight_decay=0.0, **fused
        )
        if self.settings.checkpoint_activations:
            self.student.foundation.set_grad_checkpointing(True)
        self.parallel = (
            DistributedDataParallel(self.student) if self.compute.ranks > 1 else self.student
        )
        # Gradients of a graph's last call would be overwritten while parts of a batch add up.
        graphs = self.settings.accumulate == 1
        self.run_student = self.compute.compiled(self.parallel, graphs)
        self.run_teacher = self.compute.compiled(self.teacher, graphs)
        self.run_loss = self.compute.compiled(dino_loss, graphs)
        self.run_view = self.compute.compiled(make_view)
        self.means, self.step = Means(), 0

    def _network(self, drop_path: float) -> DinoNetwork:
        foundation = build_foundation(
            self.model, len(self.store.channels), self.views.global_size, drop_path
        )
        head = DinoHead(foundation.embed_dim, **vars(self.head))
        return DinoNetwork(foundation, head).to(self.compute.device).train()

    def run(
        self, states: StateFolder, what: str, report: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        """Train from the newest state to the last epoch; `report` gets the log after each epoch."""
        self._resume(states, what)
        alarm = CollapseAlarm(self.head.prototypes, self.settings.patience)
        progress = Progress(
            what,
            self.steps * self.settings.batch_size,
            "samples",
            done=self.step * self.settings.batch_size,
        )
        saved = epoch_start = time.monotonic()
        loader = Loader(self.store, self._plan(self.step), self.compute.device, self.threads)
        with Interruption().watched() as interruption:
            for sites, draws in loader:
                self.train_step(sites, draws)
                epoch, done = divmod(self.step, self.steps_per_epoch)
                if done == 0:
                    row = self._end_epoch(epoch - 1, time.monotonic() - epoch_start, loader)
                    alarm.check(epoch - 1, row["loss"], row["feature_deviation"])
                    self._keep_best(states, epoch - 1, row)
                    self.log.append(row)
                    if self.compute.rank == 0:
                        report(self.log)
                    epoch_start = time.monotonic()
                    progress.facts = {"epoch": f"{epoch}/{self.settings.epochs}"} | {
                        name: row[name]
                        for name in ("loss", "learning_rate", "knn_accuracy")
                        if name in row
                    }
                if self.compute.rank == 0:
                    progress.update(self.settings.batch_size)
                    late = time.monotonic() - saved > 60 * self.settings.save_minutes
                    if done == 0 or late or interruption.asked:
                        states.save(self.step, self._state(), {"log": self.log, "best": self.best})
                        saved = time.monotonic()
                if interruption.asked:
                    interruption.leave(what)

    def _plan(
        self, first: int
    ) -> Iterator[tuple[np.ndarray, tuple[list[ViewDraw], list[ViewDraw]]]]:
        """Choose the sites, partners and views of each step: this rank's part of the common choice."""
        batch, channels = self.settings.batch_size, len(self.store.channels)
        part = slice(*(batch * (self.compute.rank + i) // self.compute.ranks for i in range(2)))
        epoch, order = -1, None
        for step in range(first, self.steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = epoch_order(np.arange(len(self.sites)), self.seed, epoch)
            number = step % self.steps_per_epoch
            chosen = order[number * batch : (number + 1) * batch]
            seed = derive_seed(self.seed, step)
            partner = self.partners.draw(chosen, np.random.default_rng(seed))
            generator = torch.Generator().manual_seed(seed)
            draws = tuple(
                [
                    draw_view(batch, channels, self.views, generator, is_global)
                    .part(part)
                    .to(self.compute.device)
                    for _ in range(n)
                ]
                for n, is_global in ((2, True), (self.views.local_count, False))
            )
            yield self.sites[np.stack([chosen, partner])[:, part]], draws

    def train_step(self, sites: torch.Tensor, draws: tuple[list[ViewDraw], list[ViewDraw]]) -> None:
        """Take one step on uint8 `sites` (2, N, C, H, W), the sites and their partners."""
        seed_everything(self.seed, self.step, self.compute.rank)
        if self.compute.compile:
            torch.compiler.cudagraph_mark_step_begin()
        size = sites.shape[1] // self.settings.accumulate
        for number in range(self.settings.accumulate):
            part = slice(number * size, (number + 1) * size)
            views = self.make_views(
                sites[:, part], *([draw.part(part) for draw in kind] for kind in draws)
            )
            if self.compute.ranks > 1:
                self.parallel.require_backward_grad_sync = number == self.settings.accumulate - 1
            self.forward_backward(*views)
        self.update()

    def make_views(
        self, sites: torch.Tensor, global_draws: list[ViewDraw], local_draws: list[ViewDraw]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut the views: the first half of each kind from the sites, the other from the partners.

        Returns
        -------
        float32 tensors, shape (2 N, C, global, global) and (local_count N, C, local, local)
        """
        kinds = ((global_draws, self.views.global_size), (local_draws, self.views.local_size))
        made = []
        for draws, size in kinds:
            half = len(draws) // 2
            made.append(
                [
                    self.run_view(sites[i // half], draw, size, self.views)
                    for i, draw in enumerate(draws)
                ]
            )
        return torch.cat(made[0]), torch.cat(made[1])

    def forward_backward(self, global_views: torch.Tensor, local_views: torch.Tensor) -> None:
        """Add the gradient of the loss on views of N samples, and note the mean of the teacher's logits."""
        count = len(global_views) // 2
        with self.compute.autocast():
            with torch.no_grad():
                teacher = self.run_teacher(global_views)[0].unflatten(0, (2, count))
            student, features = self.run_student(global_views, local_views)
        student = student.unflatten(0, (-1, count))
        # A tensor, since a changing float would be compiled anew.
        temperature = torch.tensor(self._teacher_temperature(), device=self.compute.device)
        loss, entropy = self.run_loss(
            student, teacher, self.centre, self.settings.student_temperature, temperature
        )
        (loss / self.settings.accumulate).backward()
        self.teacher_mean += teacher.float().mean(dim=(0, 1)) / self.settings.accumulate
        deviation = features[: 2 * count].detach().float().std(dim=0).mean()
        self.means.add(loss=loss, teacher_entropy=entropy, feature_deviation=deviation)

    def update(self) -> None:
        """Step the student by the gradient; the teacher and the centre follow."""
        s, per_epoch = self.settings, self.steps_per_epoch
        if self.step < s.frozen_epochs * per_epoch:
            self.student.head.prototypes.grad = None
        warmup = s.warmup_epochs * per_epoch
        decay = cosine(self.step, self.steps, s.weight_decay, s.final_weight_decay)
        step_optimizer(self.optimizer, self._learning_rate(warmup), decay, s.clip)
        momentum = cosine(self.step, self.steps, s.teacher_momentum, 1.0)
        update_teacher(list(self.teacher.parameters()), list(self.student.parameters()), momentum)
        update_centre(self.centre, self.teacher_mean, s.centre_momentum)
        self.teacher_mean.zero_()
        self.step += 1

    def _learning_rate(self, warmup: int) -> float:
        return warmup_cosine(
            self.step,
            self.steps,
            warmup,
            self.settings.learning_rate,
            self.settings.final_learning_rate,
        )

    def _teacher_temperature(self) -> float:
        s = self.settings
        rise = s.teacher_temperature_epochs * self.steps_per_epoch
        return ramp(self.step, rise, s.teacher_temperature, s.final_teacher_temperature)

    def _end_epoch(self, epoch: int, seconds: float, loader: Loader) -> dict[str, Any]:
        """Make the epoch's row of the log, averaged over processes."""
        means = self.means.take()
        if self.compute.ranks > 1:
            values = torch.tensor(list(means.values()), device=self.compute.device)
            dist.all_reduce(values)
            means = dict(zip(means, (values / self.compute.ranks).tolist(), strict=True))
        waited, loader.waited = loader.waited, 0.0
        samples = self.steps_per_epoch * self.settings.batch_size
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            **means,
            "centre_norm": float(self.centre.norm()),
        }
        row["learning_rate"] = self._learning_rate(
            self.settings.warmup_epochs * self.steps_per_epoch
        )
        row |= {
            "samples_per_second": samples / seconds,
            "waiting_share": min(1.0, waited / seconds),
        }
        if self.compute.device.type == "cuda":
            row["memory_gib"] = torch.cuda.max_memory_allocated(self.compute.device) / 2**30
        return row

    def _keep_best(self, states: StateFolder, epoch: int, row: dict[str, Any]) -> None:
        """Look at the validation plate, where there is one, and keep the best weights so far."""
        due = (epoch + 1) % self.settings.validate_every == 0 or epoch + 1 == self.settings.epochs
        if self.validate is None or not due or self.compute.rank != 0:
            return
        row["knn_accuracy"] = self.validate(self.teacher.foundation)
        if row["knn_accuracy"] > self.best:
            self.best = row["knn_accuracy"]
            save_weights(states.best, self.tensors(), {"epoch": epoch + 1})

    def result(self, states: StateFolder) -> dict[str, torch.Tensor]:
        """Give student, teacher and centre: the best by validation, or the last without one."""
        return load_tensors(states.best) if self.validate is not None else self.tensors()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Student, teacher and centre as they are."""
        networks = prefixed("student", self.student.state_dict()) | prefixed(
            "teacher", self.teacher.state_dict()
        )
        return networks | {"centre": self.centre}

    def _state(self) -> dict[str, torch.Tensor]:
        return (
            self.tensors()
            | prefixed("optimizer", optimizer_tensors(self.optimizer))
            | self.means.state()
        )

    def _load_networks(self, tensors: dict[str, torch.Tensor]) -> None:
        try:
            self.student.load_state_dict(unprefixed("student", tensors))
            self.teacher.load_state_dict(unprefixed("teacher", tensors))
            self.centre.copy_(tensors["centre"])
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"The foundation to start from does not fit the model settings: {error}"
            ) from error

    def _resume(self, states: StateFolder, what: str) -> None:
        loaded = states.load()
        if loaded is None:
            return
        tensors, header = loaded
        self._load_networks(tensors)
        load_optimizer(self.optimizer, unprefixed("optimizer", tensors))
        self.means.load(tensors, self.compute.device)
        self.step, self.log, self.best = header["step"], header["log"], header["best"]
        if self.best >= 0 and not states.best.exists():
            self.best = -1.0
        print(f"{what}: goes on from the state after step {self.step} of {self.steps}.", flush=True)
