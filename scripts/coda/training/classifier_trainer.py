"""Training a classifier, step 2 of the protocol and the supervised baseline: the step and the labelled batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.checkpoints import load_optimizer, optimizer_tensors, prefixed, unprefixed
from coda.training.compute import derive_seed, seed_everything
from coda.training.inference import apply_to_sites
from coda.training.loader import epoch_order
from coda.training.optim import decay_groups, step_optimizer, warmup_constant
from coda.training.settings import ViewSettings
from coda.training.trainer import Learner
from coda.training.views import ViewDraw, draw_view, make_view


@dataclass(kw_only=True)
class ClassifierLearner(Learner):
    """A classifier that learns from labels; see `Learner` for what all trainings have.

    Attributes
    ----------
    features
        Maps views to what the classifier takes: the frozen foundation's tokens, or the views.
    classifier
        The network to train.
    views
        Settings of the views.
    sites_per_epoch : int
        Sites of the training source, each shown once an epoch.
    steps_per_epoch : int
        Batches of an epoch.
    """

    features: Callable[[torch.Tensor], torch.Tensor]
    classifier: nn.Module
    views: ViewSettings
    sites_per_epoch: int

    def __post_init__(self) -> None:
        """Count the steps and make the optimiser."""
        super().__post_init__()
        groups, decay = decay_groups([self.classifier]), self.settings.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=decay, fused=True)
        self.run_view = self.compute.compiled(make_view)
        self.run_logits = self.compute.compiled(self.logits)

    def samples_after(self, step: int) -> int:
        """Count the samples seen after `step` steps."""
        epoch, number = divmod(step, self.steps_per_epoch)
        shown = min(number * self.settings.batch_size, self.sites_per_epoch)
        return epoch * self.sites_per_epoch + shown

    def logits(self, views: torch.Tensor) -> torch.Tensor:
        """Map views (N, C, size, size) to logits (N, classes)."""
        return self.classifier(self.features(views))

    def train_step(self, sites: torch.Tensor, rest: tuple[torch.Tensor, ViewDraw]) -> None:
        """Take one step on uint8 `sites` (N, C, H, W); `rest` is class numbers (N,) and the views' random numbers."""
        classes, draw = rest
        seed_everything(self.seed, self.step)
        self.classifier.train()
        view = self.run_view(sites, draw, self.views.global_size, self.views)
        with self.compute.autocast():
            loss = F.cross_entropy(self.run_logits(view).float(), classes)
        loss.backward()
        settings = self.settings
        step_optimizer(self.optimizer, self.learning_rate(), settings.weight_decay, settings.clip)
        self.means.add(loss=loss)
        self.step += 1

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        warmup = self.settings.warmup_epochs * self.steps_per_epoch
        return warmup_constant(self.step, warmup, self.settings.learning_rate)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give the classifier's weights as they are."""
        return self.classifier.state_dict()

    def state(self) -> dict[str, torch.Tensor]:
        """Give all that the next step depends on; what is random follows from seed and step."""
        moments = prefixed("optimizer", optimizer_tensors(self.optimizer))
        return prefixed("classifier", self.tensors()) | moments | self.means.state()

    def load_state(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Go back to a state that was saved after `step` steps."""
        self.classifier.load_state_dict(unprefixed("classifier", tensors))
        load_optimizer(self.optimizer, unprefixed("optimizer", tensors))
        self.means.load(tensors, self.compute.device)
        self.step = step


@dataclass(frozen=True)
class LabelledSites:
    """Sites with classes.

    Attributes
    ----------
    store : CropStore
        The crops.
    sites : int64 array, shape (n,)
        Rows of the store.
    classes : int64 array, shape (n,)
        Class numbers.

    Raises
    ------
    UserError
        If there are none.
    """

    store: CropStore
    sites: np.ndarray
    classes: np.ndarray

    def __post_init__(self) -> None:
        """Refuse to be empty."""
        if not len(self.sites):
            raise UserError(
                "There are no labelled sites to train or validate on; check sources and labels in the config."
            )

    def steps_per_epoch(self, batch: int) -> int:
        """Count the batches that show every site once; the last may be smaller."""
        return -(-len(self.sites) // batch)

    def plan(
        self, learner: ClassifierLearner
    ) -> Iterator[tuple[np.ndarray, tuple[torch.Tensor, ViewDraw]]]:
        """Choose sites and views of each step to come.

        Yields
        ------
        int64 array, shape (N,)
            Rows of the store.
        tuple
            Class numbers (N,), and the random numbers of the views.
        """
        batch, device = learner.settings.batch_size, learner.compute.device
        for step in range(learner.step, learner.steps):
            epoch, number = divmod(step, learner.steps_per_epoch)
            order = epoch_order(np.arange(len(self.sites)), learner.seed, epoch)
            chosen = order[number * batch : (number + 1) * batch]
            generator = torch.Generator().manual_seed(derive_seed(learner.seed, step))
            draw = draw_view(len(chosen), len(self.store.channels), learner.views, generator)
            classes = torch.from_numpy(self.classes[chosen]).to(device)
            yield self.sites[chosen], (classes, draw.to(device))

    def accuracy(self, learner: ClassifierLearner, threads: int) -> float:
        """Share of the sites, each looked at once, that `learner` gives the right class."""
        learner.classifier.eval()
        (logits,) = apply_to_sites(
            lambda views: (learner.logits(views),),
            store=self.store,
            sites=self.sites,
            size=learner.views.global_size,
            compute=learner.compute,
            threads=threads,
        )
        return float((logits.argmax(dim=1).numpy() == self.classes).mean())
