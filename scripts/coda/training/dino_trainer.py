"""DINO training, steps 1 and 3 of the protocol: the step, the batches, and the alarm of a collapse."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.adaptation_data import mixed_order
from coda.training.checkpoints import load_optimizer, optimizer_tensors, prefixed, unprefixed
from coda.training.compute import derive_seed, seed_everything
from coda.training.dino import DinoHead, DinoNetwork, dino_loss, update_centre, update_teacher
from coda.training.networks import build_foundation
from coda.training.optim import cosine, decay_groups, ramp, step_optimizer, warmup_cosine
from coda.training.partners import Partners
from coda.training.settings import DinoSettings, HeadSettings, ModelSettings, ViewSettings
from coda.training.trainer import Learner, check_loss
from coda.training.views import ViewDraw, draw_view, make_view


def steps_per_epoch(sites: int, settings: DinoSettings, ranks: int, section: str) -> int:
    """Count the full batches of an epoch.

    Parameters
    ----------
    sites
        Sites that an epoch shows.
    settings, ranks
        The training's settings, and the processes that share a batch.
    section
        Section of the config that the settings stand in.

    Raises
    ------
    UserError
        If there is not one, or a batch cannot be split over processes and parts; it names the keys.
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


@dataclass(kw_only=True)
class DinoLearner(Learner):
    """A student that learns from its teacher; see `Learner` for what all trainings have.

    Attributes
    ----------
    channels : int
        Channels of an image.
    model, head, views
        Settings of the networks and of what they see.
    start : dict or None
        Tensors of an earlier training (student, teacher and centre) to go on from.
    """

    channels: int
    model: ModelSettings
    head: HeadSettings
    views: ViewSettings
    start: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        """Build student, teacher and optimiser."""
        super().__post_init__()
        seed_everything(self.seed)
        self.student, self.teacher = self._network(self.settings.drop_path), self._network(0.0)
        self.teacher.load_state_dict(self.student.state_dict())
        self.centre = torch.zeros(self.head.prototypes, device=self.compute.device)
        self.teacher_mean = torch.zeros_like(self.centre)
        # A tensor, since a changing float would be compiled anew; always the same one, since a new one would be
        # copied from the CPU in every step, which waits for the GPU. CUDA graphs read it as they read the centre.
        self.temperature = torch.zeros((), device=self.compute.device)
        if self.start is not None:
            self._load_networks(self.start)
        self.teacher.requires_grad_(False)
        groups = decay_groups([self.student])
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=True)
        if self.compute.checkpoint_activations:
            self.student.foundation.set_grad_checkpointing(True)
        alone = self.compute.ranks == 1
        self.parallel = self.student if alone else DistributedDataParallel(self.student)
        # Gradients of a graph's last call would be overwritten while parts of a batch add up.
        graphs = self.settings.accumulate == 1
        self.run_student = self.compute.compiled(self.parallel, graphs)
        self.run_teacher = self.compute.compiled(self.teacher, graphs)
        self.run_loss = self.compute.compiled(dino_loss, graphs)
        self.run_view = self.compute.compiled(make_view)

    def _network(self, drop_path: float) -> DinoNetwork:
        size = self.views.global_size
        # What goes on from earlier networks need not fetch the weights that those began with.
        model = self.model if self.start is None else replace(self.model, weights="random")
        foundation = build_foundation(model, self.channels, size, drop_path)
        head = DinoHead(foundation.embed_dim, **vars(self.head))
        return DinoNetwork(foundation, head).to(self.compute.device).train()

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
        self.temperature.fill_(self.teacher_temperature())
        loss, entropy = self.run_loss(
            student, teacher, self.centre, self.settings.student_temperature, self.temperature
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
        decay = cosine(self.step, self.steps, s.weight_decay, s.final_weight_decay)
        step_optimizer(self.optimizer, self.learning_rate(), decay, s.clip)
        momentum = cosine(self.step, self.steps, s.teacher_momentum, 1.0)
        update_teacher(list(self.teacher.parameters()), list(self.student.parameters()), momentum)
        update_centre(self.centre, self.teacher_mean, s.centre_momentum)
        self.teacher_mean.zero_()
        self.step += 1

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        s = self.settings
        warmup = s.warmup_epochs * self.steps_per_epoch
        return warmup_cosine(self.step, self.steps, warmup, s.learning_rate, s.final_learning_rate)

    def watched(self) -> dict[str, float]:
        """Give the length of the centre and the learning rate."""
        return {"centre_norm": float(self.centre.norm())} | super().watched()

    def teacher_temperature(self) -> float:
        """Temperature of the teacher in the next step."""
        s = self.settings
        rise = s.teacher_temperature_epochs * self.steps_per_epoch
        return ramp(self.step, rise, s.teacher_temperature, s.final_teacher_temperature)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Student, teacher and centre as they are."""
        networks = prefixed("student", self.student.state_dict()) | prefixed(
            "teacher", self.teacher.state_dict()
        )
        return networks | {"centre": self.centre}

    def state(self) -> dict[str, torch.Tensor]:
        """Give all that the next step depends on; what is random follows from seed and step."""
        moments = prefixed("optimizer", optimizer_tensors(self.optimizer))
        return self.tensors() | moments | self.means.state()

    def load_state(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Go back to a state that was saved after `step` steps."""
        self._load_networks(tensors)
        load_optimizer(self.optimizer, unprefixed("optimizer", tensors))
        self.means.load(tensors, self.compute.device)
        self.step = step

    def _load_networks(self, tensors: dict[str, torch.Tensor]) -> None:
        try:
            self.student.load_state_dict(unprefixed("student", tensors))
            self.teacher.load_state_dict(unprefixed("teacher", tensors))
            self.centre.copy_(tensors["centre"])
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"The foundation to start from does not fit the model settings: {error}"
            ) from error


@dataclass(frozen=True)
class PairedSites:
    """Sites without labels, each with its cross-batch partners.

    Attributes
    ----------
    store : CropStore
        The crops.
    sites : int64 array, shape (n,)
        Rows of the store to train on.
    partners : Partners
        By position in `sites`.
    groups : list of int64 arrays
        Positions in `sites` that take turns within a batch (`coda.training.adaptation_data`); all as one by default.
    """

    store: CropStore
    sites: np.ndarray
    partners: Partners
    groups: list[np.ndarray] = field(default_factory=list)

    def plan(
        self, learner: DinoLearner
    ) -> Iterator[tuple[np.ndarray, tuple[list[ViewDraw], list[ViewDraw]]]]:
        """Choose sites, partners and views of each step to come: this process's part of the choice.

        Yields
        ------
        int64 array, shape (2, batch / ranks)
            Rows of the store: the sites, and their partners.
        tuple of lists of ViewDraw
            Random numbers of the two global views, and of the local ones.
        """
        compute, batch = learner.compute, learner.settings.batch_size
        part = slice(*(batch * (compute.rank + end) // compute.ranks for end in range(2)))
        kinds = ((2, True), (learner.views.local_count, False))
        groups = self.groups or [np.arange(len(self.sites))]
        first = learner.step
        for step in range(first, learner.steps):
            epoch, number = divmod(step, learner.steps_per_epoch)
            if number == 0 or step == first:
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


# Within 0.1 % of the largest entropy, or features a thousandth of their usual spread of about 1.
LOSS_SHARE, FEATURE_DEVIATION = 0.999, 1e-3


def check_learning(log: list[dict[str, Any]], prototypes: int, patience: int) -> None:
    """Stop a DINO training that has stopped to learn.

    Collapse shows in two ways: the loss stays at ln(prototypes), since the teacher gives every
    prototype the same probability, or all features become equal. The first epochs often look so. It
    is read from the log, which a state keeps, so a training that was interrupted counts on.

    Parameters
    ----------
    log
        One row an epoch with ``epoch``, ``loss`` and ``feature_deviation``, the last one new.
    prototypes
        Number of prototypes.
    patience
        Epochs in a row that may look collapsed.

    Raises
    ------
    UserError
        On a loss that is not a number, or after `patience` collapsed epochs in a row.
    """
    row, ceiling = log[-1], math.log(prototypes)
    check_loss(row, row["epoch"])
    latest = log[-patience:]
    if len(latest) == patience and all(
        past["loss"] > LOSS_SHARE * ceiling or past["feature_deviation"] < FEATURE_DEVIATION
        for past in latest
    ):
        raise UserError(
            f"The features collapsed: for {patience} epochs the loss was {row['loss']:.4f} (ln of the prototypes is "
            f"{ceiling:.4f}) or the features' deviation {row['feature_deviation']:.2g}; start from pretrained "
            "weights (model.weights), set head.batch_norm to true, make views milder, or wait longer (watch.patience)."
        )
