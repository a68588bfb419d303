"""Batches of one plate, for networks whose batch norms take the statistics of a plate."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from coda.columns import PLATE_KEYS
from coda.training.alignment import reference_sites
from coda.training.classifier_trainer import ClassifierLearner, LabelledSites
from coda.training.compute import derive_seed
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
