"""Methods of others that the study compares with, on the same images and the same networks.

None is part of the workflow. Where a network without batch norms, or one this small, asks for a change, the
function says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as F
from coda.columns import PLATE_KEYS
from coda.crops.store import CropStore
from coda.training.alignment import reference_sites
from coda.training.classifier_trainer import ClassifierLearner, LabelledSites
from coda.training.compute import Compute, derive_seed
from coda.training.inference import apply_to_sites
from coda.training.loader import Loader, epoch_order
from coda.training.networks import TaskModel, in_float32
from coda.training.optim import decay_groups, step_optimizer, warmup_cosine
from coda.training.settings import DinoSettings, TaskSettings, ViewSettings
from coda.training.site_selection import labelled_rows
from coda.training.tent import entropy
from coda.training.views import centre_view, draw_view, make_view
from coda.training.vit import cls_after
from harmonypy import run_harmony
from sklearn.covariance import ledoit_wolf
from torch import nn

# --- Features -----------------------------------------------------------------------------------------------------


def root(matrix: np.ndarray, power: float) -> np.ndarray:
    """Power of a symmetric positive matrix, for example its inverse square root."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


def coral(features: np.ndarray, wanted: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Give `features` (N, D) the covariance of `wanted` (M, D), by whitening and re-colouring.

    Sun, Feng and Saenko, "Return of Frustratingly Easy Domain Adaptation" (AAAI 2016), who add the identity (`ridge`)
    to both covariances. Their features are standardised by domain, so that means do not matter; here both are
    standardised first.
    """
    features, wanted = standardised(features), standardised(wanted)
    unit = ridge * np.eye(features.shape[1])
    own, other = (np.cov(each, rowvar=False) + unit for each in (features, wanted))
    return features @ root(own, -0.5) @ root(other, 0.5)


def standardised(features: np.ndarray) -> np.ndarray:
    """Give each dimension mean 0 and deviation 1, where it varies."""
    deviation = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def coral_by_controls(target: pd.DataFrame, training: pd.DataFrame) -> np.ndarray:
    """Give the embeddings of each target plate the mean and covariance of the training source, by negative controls.

    CORAL from target to training source, with covariances of control sites shrunk as Ledoit and Wolf's formula says,
    since a plate has fewer of them than an embedding has dimensions.

    Returns
    -------
    float64 array, shape (sites of the target, D)
    """
    away, home = (np.stack(list(table["Embedding"])).astype(float) for table in (target, training))
    known = home[reference_sites(training, "dmso")]
    colour = root(ledoit_wolf(known)[0], 0.5)
    mapped = np.empty_like(away)
    for rows in target.reset_index(drop=True).groupby(PLATE_KEYS, sort=False).indices.values():
        controls = away[rows[reference_sites(target.iloc[rows], "dmso")]]
        whiten = root(ledoit_wolf(controls)[0], -0.5)
        mapped[rows] = (away[rows] - controls.mean(axis=0)) @ whiten @ colour + known.mean(axis=0)
    return mapped


def harmony(features: np.ndarray, labs: np.ndarray) -> np.ndarray:
    """Bring embeddings (N, D) of several labs together by Harmony, with its authors' defaults.

    Korsunsky et al., Nature Methods 16 (2019), in the package harmonypy.
    """
    mixed = run_harmony(
        standardised(features), pd.DataFrame({"lab": labs}), ["lab"], verbose=False, random_state=0
    )
    return np.asarray(mixed.Z_corr).reshape(features.shape)


# --- Networks with batch norms ------------------------------------------------------------------------------------


def build_resnet(channels: int, classes: int) -> nn.Module:
    """Build a ResNet-18, from random weights."""
    return timm.create_model("resnet18", pretrained=False, in_chans=channels, num_classes=classes)


@dataclass(frozen=True)
class SitesOfOnePlate(LabelledSites):
    """Labelled sites in batches of one plate, each with the plate's negative controls.

    CS-ARM-BN (Sanchez-Fernandez, Pinetz, Zellinger and Klambauer, arXiv 2604.20824, 2026): batch norms see labelled
    images and negative controls of one plate, in training and at a target; controls have no part in the loss. It
    stands on ARM-BN (Zhang et al., "Adaptive Risk Minimization", NeurIPS 2021).

    Attributes
    ----------
    context
        Control sites beside each batch.
    """

    context: int = 16

    def plan(self, learner: ClassifierLearner) -> Iterator[tuple[np.ndarray, tuple]]:
        """Choose sites and views of each step to come; controls have the class that cross entropy leaves out."""
        batch, seed = learner.settings.batch_size, learner.seed
        plates = self.store.table["Metadata_Plate"].to_numpy()
        controls = reference_sites(self.store.table, "dmso")
        for epoch in range(learner.settings.epochs):
            order = epoch_order(np.arange(len(self.sites)), seed, epoch)
            owners = plates[self.sites[order]]
            batches = [
                mine[start : start + batch]
                for plate in np.unique(owners)
                for mine in [order[owners == plate]]
                for start in range(0, len(mine), batch)
            ]
            random = np.random.default_rng([seed, epoch, 1])
            for number in random.permutation(len(batches)):
                chosen = batches[number]
                own = controls[plates[controls] == plates[self.sites[chosen[0]]]]
                beside = random.choice(own, self.context)
                sites = np.concatenate([self.sites[chosen], beside])
                classes = np.concatenate([self.classes[chosen], np.full(len(beside), -100)])
                generator = torch.Generator().manual_seed(derive_seed(seed, epoch, int(number)))
                draw = draw_view(len(sites), len(self.store.channels), learner.views, generator)
                yield sites, (torch.from_numpy(classes), draw)


def train_resnet(
    sites: LabelledSites,
    settings: TaskSettings,
    views: ViewSettings,
    classes: int,
    compute: Compute,
    seed: int,
) -> nn.Module:
    """Train a ResNet on labelled sites; the last state is kept."""
    torch.manual_seed(seed)
    network = build_resnet(len(sites.store.channels), classes)
    learner = ClassifierLearner(
        compute=compute,
        settings=settings,
        seed=seed,
        features=nn.Identity(),
        classifier=network,
        views=views,
        sites_per_epoch=len(sites.sites),
        steps_per_epoch=-(-len(sites.sites) // settings.batch_size),
    )
    for batch, rest in Loader(sites.store, sites.plan(learner), compute.device):
        learner.train_step(batch, rest)
    return network


@torch.inference_mode()
def logits_by_batch_norms(
    network: nn.Module, store: CropStore, size: int, compute: Compute, own_statistics: bool
) -> torch.Tensor:
    """Logits of every site, with statistics of batch norms as trained or those of each plate's own sites.

    AdaBN (Li, Wang, Shi, Liu and Hou, "Revisiting Batch Normalization for Practical Domain Adaptation", ICLR workshop
    2017) computes them of the target, here of all sites of a plate, layer after layer. So does CS-ARM-BN at a target,
    whose network was trained that way.
    """
    if not own_statistics:
        network.eval()
        every = np.arange(len(store))
        return apply_to_sites(lambda views: (network(views),), store, every, size, compute)[0]
    parts = torch.empty(len(store), network.num_classes)
    for rows in store.table.groupby(PLATE_KEYS, sort=False).indices.values():
        with norms_of_batch(network), compute.autocast():
            crops = store.on_device(torch.from_numpy(store.gather(rows)), rows)
            views = centre_view(crops, size)
            parts[torch.from_numpy(rows)] = network(views).float()
    return parts


class norms_of_batch:  # noqa: N801
    """Context in which batch norms take statistics of what they see, and forget them after."""

    def __init__(self, network: nn.Module):
        self.network = network
        self.norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]

    def __enter__(self) -> None:
        """Use statistics of batches, in a network that else computes as in evaluation."""
        self.network.eval()
        for norm in self.norms:
            norm.training, norm.track_running_stats = True, False

    def __exit__(self, *error: object) -> None:
        """Use the trained statistics again."""
        for norm in self.norms:
            norm.training, norm.track_running_stats = False, True


# --- Training on the target ---------------------------------------------------------------------------------------


def last_features(task_model: TaskModel, tokens: torch.Tensor) -> torch.Tensor:
    """Features (N, width) before the task model's last layer."""
    return task_model.norm(cls_after(task_model.blocks, task_model.projector(tokens)))


def information_loss(logits: torch.Tensor) -> torch.Tensor:
    """Mean entropy of predictions less the entropy of their mean, in nats: sure one by one, diverse together."""
    share = logits.float().softmax(dim=1).mean(dim=0)
    return entropy(logits) + (share * share.clamp(min=1e-8).log()).sum()


def pseudo_labels(features: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Name the nearest class centre by cosine of each site (N,): centres weighed by predictions, then by those labels.

    Classes that nothing was named after the first round have no centre in the second.
    """
    features = F.normalize(features, dim=1)
    weights = probabilities
    for _ in range(2):
        centres = weights.T @ features / weights.sum(dim=0)[:, None].clamp(min=1e-8)
        similarity = features @ F.normalize(centres, dim=1).T
        similarity[:, weights.sum(dim=0) == 0] = -torch.inf
        labels = similarity.argmax(dim=1)
        weights = F.one_hot(labels, probabilities.shape[1]).to(features)
    return labels


PSEUDO_WEIGHT = 0.3


def shot(
    foundation: nn.Module,
    task_model: TaskModel,
    store: CropStore,
    sites: np.ndarray,
    settings: DinoSettings,
    views: ViewSettings,
    compute: Compute,
    seed: int,
) -> None:
    """Adapt the foundation in place under the frozen task model.

    Liang, Hu and Feng, "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
    Adaptation" (ICML 2020): information maximisation and 0.3 times the cross entropy with pseudo-labels, made anew each
    epoch. Their source model was trained with smoothed labels, this one was not.
    """
    task_model.eval().requires_grad_(False)
    foundation.requires_grad_(True)

    def look(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = last_features(task_model, foundation.forward_features(images))
        return features, in_float32(task_model.classifier, features).softmax(dim=1)

    labels = torch.zeros(len(store), dtype=torch.long)
    for epoch, step in _epochs([foundation], store, sites, settings, views, compute, seed):
        foundation.eval()
        seen = apply_to_sites(look, store, sites, views.global_size, compute)
        labels[torch.from_numpy(sites)] = pseudo_labels(*seen)
        foundation.train()
        for images, rows in epoch:
            with compute.autocast():
                logits = task_model(foundation.forward_features(images))
                named = F.cross_entropy(logits.float(), labels[rows])
                step(information_loss(logits) + PSEUDO_WEIGHT * named)
    foundation.eval()


def deep_coral_loss(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Squared distance of the covariances of two batches of features (N, D), over 4 D^2."""
    difference = torch.cov(one.float().T) - torch.cov(other.float().T)
    return difference.square().sum() / (4 * one.shape[1] ** 2)


CORAL_WEIGHT = 1.0


def deep_coral(
    foundation: nn.Module,
    task_model: TaskModel,
    source: LabelledSites,
    store: CropStore,
    sites: np.ndarray,
    settings: DinoSettings,
    views: ViewSettings,
    compute: Compute,
    seed: int,
) -> None:
    """Train both networks in place on labels of the training source and on equal covariances of both labs.

    Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation" (ECCV workshops 2016), on the
    features before the last layer. A batch of the target goes with one as large of the training source.
    """
    networks = [foundation.requires_grad_(True), task_model.requires_grad_(True)]
    for network in networks:
        network.train()
    drawn = np.random.default_rng([seed, 2])
    generator = torch.Generator().manual_seed(derive_seed(seed, 2))
    for epoch, step in _epochs(networks, store, sites, settings, views, compute, seed):
        for images, _ in epoch:
            chosen = drawn.choice(len(source.sites), len(images), replace=False)
            draw = draw_view(len(chosen), len(store.channels), views, generator)
            home = torch.from_numpy(source.store.gather(source.sites[chosen]))
            home = make_view(home.to(compute.device), draw, views.global_size, views)
            with compute.autocast():
                both = foundation.forward_features(torch.cat([home, images]))
                features = last_features(task_model, both)
                logits = in_float32(task_model.classifier, features[: len(home)])
                named = F.cross_entropy(logits, torch.from_numpy(source.classes[chosen]))
                apart = deep_coral_loss(features[: len(home)], features[len(home) :])
                step(named + CORAL_WEIGHT * apart)
    for network in networks:
        network.eval()


def _epochs(networks, store, sites, settings: DinoSettings, views, compute, seed) -> Iterator:
    """Yield of each epoch its batches, as views and rows, and a function that takes a step on a loss.

    As many steps of as many sites as an adaptation of the workflow has, by its optimiser, rates and schedule.
    """
    per_epoch = len(sites) // settings.batch_size
    steps, warmup = settings.epochs * per_epoch, settings.warmup_epochs * per_epoch
    optimizer = torch.optim.AdamW(decay_groups(networks), lr=0.0)
    taken = 0

    def step(loss: torch.Tensor) -> None:
        nonlocal taken
        loss.backward()
        rate = warmup_cosine(
            taken, steps, warmup, settings.learning_rate, settings.final_learning_rate
        )
        step_optimizer(optimizer, rate, settings.weight_decay, settings.clip)
        taken += 1

    def batches(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = epoch_order(sites, seed, number)[: per_epoch * settings.batch_size]
        generator = torch.Generator().manual_seed(derive_seed(seed, number))
        plan = ((rows, torch.from_numpy(rows)) for rows in order.reshape(per_epoch, -1))
        for batch, rows in Loader(store, plan, compute.device):
            draw = draw_view(len(batch), len(store.channels), views, generator)
            yield make_view(batch, draw.to(compute.device), views.global_size, views), rows

    torch.manual_seed(seed)
    for number in range(settings.epochs):
        yield batches(number), step


def labelled_sites(store: CropStore, classes: list[str]) -> LabelledSites:
    """Labelled sites of good quality."""
    return LabelledSites(store, *labelled_rows(store.table, classes))
