"""Batches of one plate, for networks whose batch norms take the statistics of a plate."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coda.columns import PLATE_KEYS
from coda.training.alignment import reference_sites
from coda.training.classifier_trainer import ClassifierLearner, LabelledSites
from coda.training.compute import derive_seed
from coda.training.convolutional import with_plate_norms
from coda.training.inference import apply_to_sites
from coda.training.views import ViewDraw, draw_view

CONTEXT = 16  # negative controls beside the labelled sites of a batch
NO_CLASS = torch.nn.CrossEntropyLoss().ignore_index


@dataclass(frozen=True)
class PlateBatches(LabelledSites):
    """Labelled sites in batches of one plate, each with some of the plate's negative controls.

    A network is trained as it is used: its batch norms see images of one plate, controls among them, which are alike
    on all plates; controls have no part in the loss (CS-ARM-BN: Sanchez-Fernandez, Pinetz, Zellinger and Klambauer,
    arXiv 2604.20824, 2026; it stands on ARM-BN: Zhang et al., "Adaptive Risk Minimization", NeurIPS 2021).
    """

    @cached_property
    def plates(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each plate its labelled sites, as places in `sites`, and the rows of its controls of good quality."""
        table = self.store.table
        controls = reference_sites(table, "dmso")
        keys = table.groupby(PLATE_KEYS, sort=False).ngroup().to_numpy()
        owners = keys[self.sites]
        return [
            (np.flatnonzero(owners == plate), controls[keys[controls] == plate])
            for plate in np.unique(owners)
        ]

    def steps_per_epoch(self, batch: int) -> int:
        """Count the batches that show every site once."""
        return sum(-(-len(mine) // batch) for mine, _ in self.plates)

    def plan(
        self, learner: ClassifierLearner
    ) -> Iterator[tuple[np.ndarray, tuple[torch.Tensor, ViewDraw]]]:
        """Choose sites and views of each step to come, as `LabelledSites` does; controls have no class."""
        device = learner.compute.device
        for step in range(learner.step, learner.steps):
            epoch, number = divmod(step, learner.steps_per_epoch)
            chosen, controls = self._batches(learner, epoch)[number]
            random = np.random.default_rng([learner.seed, step, 1])
            beside = random.choice(controls, CONTEXT) if len(controls) else controls
            sites = np.concatenate([self.sites[chosen], beside])
            classes = F.pad(
                torch.from_numpy(self.classes[chosen]), (0, len(beside)), value=NO_CLASS
            )
            generator = torch.Generator().manual_seed(derive_seed(learner.seed, step))
            draw = draw_view(len(sites), len(self.store.channels), learner.views, generator)
            yield sites, (classes.to(device), draw.to(device))

    def accuracy(self, learner: ClassifierLearner, threads: int) -> float:
        """Share of the sites that `learner` gives the right class, its norms those of each plate, as it is used."""
        inputs = dict(size=learner.views.global_size, compute=learner.compute, threads=threads)
        right = 0
        for rows, network in with_plate_norms(learner.classifier, self.store, **inputs):

            def logits_of(views: torch.Tensor, network: nn.Module = network) -> tuple[torch.Tensor]:
                return (network(views),)

            mine = np.isin(self.sites, rows)
            (logits,) = apply_to_sites(logits_of, self.store, self.sites[mine], **inputs)
            right += int((logits.argmax(dim=1).numpy() == self.classes[mine]).sum())
        return right / len(self.sites)

    def _batches(
        self, learner: ClassifierLearner, epoch: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Cut the plates of an epoch into batches, in a random order."""
        random, size = np.random.default_rng([learner.seed, epoch]), learner.settings.batch_size
        # Of about one size: norms and steps would rest on the few sites that are left over otherwise.
        batches = [
            (part, controls)
            for mine, controls in self.plates
            for part in np.array_split(random.permutation(mine), -(-len(mine) // size))
        ]
        return [batches[place] for place in random.permutation(len(batches))]
