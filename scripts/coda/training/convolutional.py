"""A convolutional network for the supervised baseline, and batch norms that take their statistics from a plate.

AdaBN (Li, Wang, Shi, Liu and Hou, "Revisiting Batch Normalization for Practical Domain Adaptation", ICLR workshop 2017)
keeps all weights of a trained network and gives its batch norms the statistics of the images at hand. No label is used.
"""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import timm
import torch
from torch import nn

from coda.columns import PLATE_KEYS
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.compute import Compute
from coda.training.inference import apply_to_sites

SITES_AT_ONCE = 256
LEAST_SIDE = (
    64  # pixels; of fewer, less than four pixels would be left, and no statistics of a single image
)
FEW = 32  # sites of a plate, below which its statistics say little


class Convolutional(nn.Module):
    """A convolutional network of timm that gives, as a transformer does, tokens: one, its pooled features.

    Parameters
    ----------
    architecture
        Name in timm; the network starts from random weights.
    channels
        Channels of an image.

    Raises
    ------
    UserError
        If there is no such network, or it has no batch norms.
    """

    def __init__(self, architecture: str, channels: int):
        super().__init__()
        try:
            self.network = timm.create_model(
                architecture, pretrained=False, in_chans=channels, num_classes=0
            )
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"The config key supervised_network is {architecture!r}, which cannot be built: {error}"
            ) from error
        if not batch_norms(self.network):
            raise UserError(
                f"The config key supervised_network is {architecture!r}, which has no batch norms; name a network "
                "that has, such as resnet18, or leave it out."
            )
        self.embed_dim = self.network.num_features

    def forward_features(self, views: torch.Tensor) -> torch.Tensor:
        """Map views (N, channels, size, size) to features (N, 1, width)."""
        return self.network(views)[:, None]


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Give the norms of a network that take statistics over images."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def with_plate_norms(
    network: nn.Module,
    store: CropStore,
    size: int,
    compute: Compute,
    threads: int = 1,
    seed: int = 0,
) -> Iterator[tuple[np.ndarray, nn.Module]]:
    """Give of each plate its sites, and the network with batch norms that have the statistics of these sites.

    The sites go through the network once, some at a time in a random order, and the statistics are means over these
    parts. With one part they are those of all its sites, layer after layer, as in AdaBN; with more, each part is
    normalised by itself meanwhile, which the memory of a device asks for. Sites flagged by quality control are left
    out, unless a plate has no others.

    Parameters
    ----------
    network
        On the device; it stays as it is.
    store
        Crops of one or more plates.
    size, compute, threads
        As in `coda.training.inference.apply_to_sites`.
    seed
        Seed of the order.

    Yields
    ------
    rows : int array
        The plate's sites in the store, in their order.
    network : nn.Module
        A copy in evaluation mode; the same one each time.
    """
    adapted = deepcopy(network).eval()
    norms = batch_norms(adapted)
    for keys, rows in store.table.groupby(PLATE_KEYS, sort=False).indices.items():
        good = (
            store.table["Quality_ok"].to_numpy(bool)[rows] if "Quality_ok" in store.table else True
        )
        seen = rows[good] if np.any(good) else rows
        if len(seen) < FEW:
            print(
                f"Plate {keys[-1]} has {len(seen)} sites only, so its norms rest on few images.",
                flush=True,
            )
        seen = np.random.default_rng(seed).permutation(seen)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all parts
            norm.training = True
        # Parts of one size, as each counts the same; each one batch, as one that is not full would be filled up with
        # copies of its last site where networks are compiled.
        for part in np.array_split(seen, -(-len(seen) // SITES_AT_ONCE)):
            apply_to_sites(
                lambda views: (adapted(views),),
                store,
                part,
                size,
                compute,
                batch_size=len(part),
                threads=threads,
            )
        for norm in norms:
            norm.training = False
        yield rows, adapted
