"""DINO training, steps 1 and 3 of the protocol: the step, the batches, and the alarm of a collapse."""

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.adaptation_data import mixed_order
from coda.training.adaptation_terms import Seen, Term, weighted_sum
from coda.training.checkpoints import load_optimizer, optimizer_tensors, prefixed, unprefixed
from coda.training.compute import derive_seed, seed_everything
from coda.training.dino import (
    DinoHead,
    DinoNetwork,
    dino_loss,
    freeze_last_blocks,
    update_centre,
    update_teacher,
)
from coda.training.graphed_update import GraphedUpdate
from coda.training.networks import build_foundation
from coda.training.optim import (
    cosine,
    decay_groups,
    ramp,
    step_optimizer,
    teacher_momentum,
    warmup_cosine,
)
from coda.training.partners import Partners
from coda.training.settings import DinoSettings, HeadSettings, ModelSettings, ViewSettings
from coda.training.trainer import Learner, check_loss
from coda.training.views import ViewDraw, centre_view, draw_view, make_view
from coda.training.views_ahead import Views, made_ahead

# Random numbers of the global and of the local views, and the sites' rows of the store.
Draws = tuple[list[ViewDraw], list[ViewDraw], torch.Tensor]


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
            f"{section}.batch_size ({batch}) cannot be split over {ranks} GPU(s) (compute.gpus on each of "
            f"compute.nodes) in {parts} part(s) "
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
    terms
        Terms of the loss beside DINO's.
    frozen_blocks : int
        Last blocks of the foundation that stay as they are in the teacher that it goes on from.
    """

    channels: int
    model: ModelSettings
    head: HeadSettings
    views: ViewSettings
    start: dict[str, torch.Tensor] | None = None
    terms: Sequence[Term] = ()
    frozen_blocks: int = 0

    def __post_init__(self) -> None:
        """Build student, teacher and optimiser."""
        super().__post_init__()
        seed_everything(self.seed)
        self.student = self._network(self.settings.drop_path, whole=bool(self.terms))
        self.teacher = self._network(0.0, whole=any(term.reads_teacher for term in self.terms))
        self.teacher.load_state_dict(self.student.state_dict())
        self.centre = torch.zeros(self.head.prototypes, device=self.compute.device)
        self.teacher_mean = torch.zeros_like(self.centre)
        # A tensor, since a changing float would be compiled anew; always the same one, since a new one would be
        # copied from the CPU in every step, which waits for the GPU. CUDA graphs read it as they read the centre.
        self.temperature = torch.zeros((), device=self.compute.device)
        if self.start is not None:
            self._load_networks(self.start)
        self.teacher.requires_grad_(False)
        freeze_last_blocks(self.student.foundation, self.teacher.foundation, self.frozen_blocks)
        self.graphed = None
        if self.compute.graph_updates and self.compute.ranks == 1:
            clip = self.settings.clip
            self.graphed = GraphedUpdate(self.student, self.teacher, clip, self._move_centre)
        groups = decay_groups([self.student])
        self.optimizer = (
            self.graphed.optimizer
            if self.graphed
            else torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=True)
        )
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

    def _network(self, drop_path: float, whole: bool) -> DinoNetwork:
        size = self.views.global_size
        # What goes on from earlier networks need not fetch the weights that those began with.
        model = self.model if self.start is None else replace(self.model, weights="random")
        foundation = build_foundation(model, self.channels, size, drop_path)
        head = DinoHead(foundation.embed_dim, **vars(self.head))
        return DinoNetwork(foundation, head, whole).to(self.compute.device).train()

    def prepared(self, batches: Iterable[tuple[torch.Tensor, Draws]]) -> Iterator[tuple[Any, ...]]:
        """Give what `train_step` takes: batches of crops as they are, or with their views made ahead."""
        if not self.compute.views_ahead:
            yield from batches
            return
        steps = count(self.step)

        def make(batch: tuple[torch.Tensor, Draws], views: Views) -> None:
            sites, (*kinds, rows) = batch
            # The noise of views, drawn before its step: from numbers of its own, so that it is the same after a stop.
            seed_everything(self.seed, next(steps), self.compute.rank, 1)
            self.make_views(sites[:, : len(rows)], *kinds, out=views)

        for batch, views in made_ahead(batches, make, self.compute):
            yield *batch, views

    def train_step(self, sites: torch.Tensor, draws: Draws, views: Views | None = None) -> None:
        """Take one step.

        Parameters
        ----------
        sites : tensor, shape (2, N + n, C, H, W)
            Crops of N sites and their partners, and of 2 n negative controls.
        draws
            Random numbers of the views, and the sites' rows of the store.
        views
            What `make_views` gives, where it was made ahead.
        """
        seed_everything(self.seed, self.step, self.compute.rank)
        if self.compute.compile:
            torch.compiler.cudagraph_mark_step_begin()
        *kinds, rows = draws
        parts, number_of_sites = self.settings.accumulate, len(rows)
        sites, controls = sites.split([number_of_sites, sites.shape[1] - number_of_sites], dim=1)
        each, few = number_of_sites // parts, controls.shape[1] // parts
        for number in range(parts):
            part = slice(number * each, (number + 1) * each)
            if views is None:
                drawn = ([draw.part(part) for draw in kind] for kind in kinds)
                seen = self.make_views(sites[:, part], *drawn)
            else:
                by_view = (kind.unflatten(0, (-1, number_of_sites)) for kind in views)
                seen = tuple(kind[:, part].flatten(0, 1) for kind in by_view)
            shown = controls[:, number * few : (number + 1) * few].flatten(0, 1)
            if self.compute.ranks > 1:
                self.parallel.require_backward_grad_sync = number == parts - 1
            self.forward_backward(*seen, shown, rows[part])
        self.update()

    def make_views(
        self,
        sites: torch.Tensor,
        global_draws: list[ViewDraw],
        local_draws: list[ViewDraw],
        out: Sequence[torch.Tensor | None] = (None, None),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut the views: the first half of each kind from the sites, the other from the partners.

        Returns
        -------
        tensors, shape (2 N, C, global, global) and (local_count N, C, local, local)
            Those given as `out`, rounded to their type; else new ones, float32.
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
        return torch.cat(made[0], out=out[0]), torch.cat(made[1], out=out[1])

    def forward_backward(
        self,
        global_views: torch.Tensor,
        local_views: torch.Tensor,
        controls: torch.Tensor,
        rows: torch.Tensor,
    ) -> None:
        """Add the gradient of the loss, and note the mean of the teacher's logits.

        Parameters
        ----------
        global_views, local_views
            Views of N sites and their partners, as `make_views` gives them.
        controls : tensor, shape (n, C, H, W)
            Crops of negative controls; none where no term reads them.
        rows : int64 tensor, shape (N,)
            The sites' rows of the store.
        """
        count = len(global_views) // 2
        shown = centre_view(controls, self.views.global_size) if len(controls) else None
        self.temperature.fill_(self.teacher_temperature())
        with self.compute.autocast():
            with torch.no_grad():
                teacher, _, teacher_tokens = self.run_teacher(global_views)
            student, features, tokens = self.run_student(global_views, local_views, controls=shown)
            values = []
            if self.terms:
                tokens, control_tokens = tokens.split([2 * count, len(controls)])
                heads = (self.student.head, self.teacher.head)
                seen = Seen(tokens, teacher_tokens, control_tokens, rows, heads, self.temperature)
                values = [term(seen) for term in self.terms]
        student, teacher = (each.unflatten(0, (-1, count)) for each in (student, teacher))
        loss, entropy = self.run_loss(
            student, teacher, self.centre, self.settings.student_temperature, self.temperature
        )
        total = loss + weighted_sum(self.terms, values)
        (total / self.settings.accumulate).backward()
        self.teacher_mean += teacher.float().mean(dim=(0, 1)) / self.settings.accumulate
        deviation = features[: 2 * count].detach().float().std(dim=0).mean()
        also = {term.name: value for term, value in zip(self.terms, values, strict=True)}
        self.means.add(loss=loss, teacher_entropy=entropy, feature_deviation=deviation, **also)

    def update(self) -> None:
        """Step the student by the gradient; the teacher and the centre follow."""
        s, rate, prototypes = self.settings, self.learning_rate(), self.student.head.prototypes
        frozen = [prototypes] if self.step < s.frozen_epochs * self.steps_per_epoch else []
        decay = cosine(self.step, self.steps, s.weight_decay, s.final_weight_decay)
        first = teacher_momentum(s.teacher_momentum, self.steps)
        momentum = cosine(self.step, self.steps, first, 1.0)
        if self.graphed:
            self.graphed(rate, decay, momentum, frozen)
        else:
            for parameter in frozen:
                parameter.grad = None
            step_optimizer(self.optimizer, rate, decay, s.clip)
            networks = self.teacher, self.student
            update_teacher(*(list(network.parameters()) for network in networks), momentum)
            self._move_centre()
        for term in self.terms:
            term.end_step(self.step)
        self.step += 1

    def _move_centre(self) -> None:
        update_centre(self.centre, self.teacher_mean, self.settings.centre_momentum)
        self.teacher_mean.zero_()

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
        terms = [prefixed(f"terms.{term.name}", term.state()) for term in self.terms]
        return self.tensors() | moments | self.means.state() | dict(ChainMap(*terms))

    def load_state(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Go back to a state that was saved after `step` steps."""
        self._load_networks(tensors)
        load_optimizer(self.optimizer, unprefixed("optimizer", tensors))
        if self.graphed:
            self.graphed.forget()
        self.means.load(tensors, self.compute.device)
        for term in self.terms:
            term.load_state(unprefixed(f"terms.{term.name}", tensors))
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
    controls : int64 array, shape (n,)
        Rows of negative controls, half as many of which as sites come with each batch; none by default.
    """

    store: CropStore
    sites: np.ndarray
    partners: Partners
    groups: list[np.ndarray] = field(default_factory=list)
    controls: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def plan(self, learner: DinoLearner) -> Iterator[tuple[np.ndarray, Draws]]:
        """Choose sites, partners and views of each step to come: this process's part of the choice.

        Yields
        ------
        int64 array, shape (2, N) or with controls (2, N + n), N being batch / ranks
            Rows of the store: the sites, and their partners; then controls in both.
        tuple
            Random numbers of the two global views, those of the local ones, and the rows of the sites, (N,).
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
            rows = self.sites[np.stack([chosen, partner])]
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
            shown = np.concatenate([rows[:, part], self._draw_controls(learner, step)], axis=1)
            yield shown, (*draws, torch.from_numpy(rows[0, part]).to(compute.device))

    def _draw_controls(self, learner: DinoLearner, step: int) -> np.ndarray:
        """Draw the controls of a step, (2, n) of them for this process: so many that each part has some."""
        if not len(self.controls):
            return np.empty((2, 0), np.int64)
        compute, settings = learner.compute, learner.settings
        parts = compute.ranks * settings.accumulate
        size = (2, parts, max(1, settings.batch_size // (4 * parts)))
        random = np.random.default_rng(derive_seed(learner.seed, step, 1))
        drawn = random.choice(self.controls, size, replace=np.prod(size) > len(self.controls))
        own = slice(*(settings.accumulate * (compute.rank + end) for end in range(2)))
        return drawn[:, own].reshape(2, -1)


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
