"""Token alignment: the target's tokens brought to the statistics the training source's had.

The task model was trained on tokens of one lab; another lab's microscope moves and stretches each of their
dimensions. Mapping mean and standard deviation of each dimension back undoes that, without training:
first-order domain adaptation on features, as Sun, Feng and Saenko do for second order (CORAL, AAAI 2016)
and Li et al. for batch normalisation (AdaBN, 2017). It looks at a whole plate at once, so it is
transductive: a site's prediction depends on the other sites of its plate.

CLS and patch tokens have different distributions and are treated apart.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from coda.crops.store import CropStore, crops_checksum
from coda.files import write_table
from coda.provenance import describe_run, file_checksum
from coda.training.checkpoints import read_header, save_weights
from coda.training.compute import Machine
from coda.training.inference import apply_to_sites
from coda.training.networks import load_foundation, load_tensors
from coda.training.settings import ModelSettings

KINDS = ("all", "dmso")
# A dimension that hardly varies is moved, not stretched: its deviation would be rounding, and dividing by it noise.
SMALLEST = 1e-6


@dataclass(frozen=True)
class TokenMoments:
    """Moments of the tokens of each site: all that statistics of any set of sites need.

    Attributes
    ----------
    cls : float32 tensor, shape (sites, width)
        The CLS tokens.
    patch_mean, patch_variance : float32 tensors, shape (sites, width)
        Mean and variance over the patch tokens of a site.
    """

    cls: torch.Tensor
    patch_mean: torch.Tensor
    patch_variance: torch.Tensor

    def statistics(self, sites: np.ndarray | slice = slice(None)) -> "TokenStatistics":
        """Mean and standard deviation over `sites`, in float64.

        The variance over all patch tokens is the mean of the sites' variances plus the variance of their
        means, since all have as many patches. No difference of large numbers occurs.
        """
        cls, mean, variance = (
            part[sites].double() for part in (self.cls, self.patch_mean, self.patch_variance)
        )
        patches = (variance.mean(dim=0) + mean.var(dim=0, correction=0)).sqrt()
        return TokenStatistics(
            torch.stack([cls.mean(dim=0), mean.mean(dim=0)]),
            torch.stack([cls.std(dim=0, correction=0), patches]),
        )


@dataclass(frozen=True)
class TokenStatistics:
    """Mean and standard deviation of each token dimension.

    Attributes
    ----------
    mean, deviation : float64 tensors, shape (2, width)
        First the CLS token's, then the patch tokens'.
    """

    mean: torch.Tensor
    deviation: torch.Tensor


def token_moments(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give of each site the CLS token, and mean and variance of the patch tokens: what `TokenMoments` holds.

    `tokens` are (N, 1 + patches, width).
    """
    tokens = tokens.float()
    patches = tokens[:, 1:]
    return tokens[:, 0], patches.mean(dim=1), patches.var(dim=1, correction=0)


def reference_sites(table: pd.DataFrame, kind: str) -> np.ndarray:
    """Rows whose tokens give the statistics: of good quality, of all wells or of the DMSO wells only.

    Parameters
    ----------
    table
        A store's table, or part of it.
    kind
        ``"all"`` or ``"dmso"``.

    Returns
    -------
    int64 array
        Positions in `table`; none where a plate has no such well.
    """
    keep = np.ones(len(table), bool)
    if "Quality_ok" in table:
        keep &= table["Quality_ok"].to_numpy(bool)
    if kind == "dmso":
        keep &= (table["Metadata_pert_type"] == "negcon").to_numpy()
    return np.flatnonzero(keep).astype(np.int64)


def save_statistics(path: str, statistics: dict[str, TokenStatistics], header: dict) -> None:
    """Write the statistics by kind (``"all"``, and ``"dmso"`` where there are such wells)."""
    tensors = {
        f"{kind}.{name}": value
        for kind, each in statistics.items()
        for name, value in vars(each).items()
    }
    save_weights(path, tensors, header)


def load_statistics(path: str) -> dict[str, TokenStatistics]:
    """Read what `save_statistics` wrote.

    Raises
    ------
    UserError
        If the file is not one of this program.
    """
    read_header(path)
    tensors = load_tensors(path)
    return {
        kind: TokenStatistics(tensors[f"{kind}.mean"], tensors[f"{kind}.deviation"])
        for kind in KINDS
        if f"{kind}.mean" in tensors
    }


class Alignment(nn.Module):
    """Map tokens, dimension by dimension, from one mean and deviation to another.

    Parameters
    ----------
    width
        Width of the tokens.
    """

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("found", torch.zeros(2, width))
        self.register_buffer("scale", torch.ones(2, width))
        self.register_buffer("wanted", torch.zeros(2, width))

    def fit(
        self, found: TokenStatistics, wanted: TokenStatistics, means_only: bool = False
    ) -> None:
        """Map from the statistics `found` to those `wanted`; in place, so that compiled code goes on."""
        varies = (found.deviation > SMALLEST) & (not means_only)
        ratio = wanted.deviation / found.deviation.clamp(min=SMALLEST)
        self.found.copy_(found.mean)
        self.scale.copy_(torch.where(varies, ratio, 1.0))
        self.wanted.copy_(wanted.mean)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, 1 + patches, width), in float32."""
        parts = tokens.float().split([1, tokens.shape[1] - 1], dim=1)
        mapped = zip(parts, self.found, self.scale, self.wanted, strict=True)
        return torch.cat(
            [(part - found) * scale + wanted for part, found, scale, wanted in mapped], dim=1
        )


def measure_tokens(
    crops: list[str],
    foundation: str,
    outputs: dict[str, str],
    settings: dict[str, Any],
    machine: Machine,
    what: str,
) -> None:
    """Measure the tokens of the training source, as the task model saw them.

    Parameters
    ----------
    crops
        Crop stores of the training plates.
    foundation
        Weights of the foundation of step 1.
    outputs
        Paths: ``statistics`` (of all sites and of the DMSO wells) and ``embeddings`` (CLS token of each site, with
        its metadata).
    settings
        Sections of the config: ``model`` and ``image_size``.
    machine, what
        Device, and the name for progress lines.
    """
    compute = machine.claim().compute()
    store = CropStore(crops)
    size, model = settings["image_size"], ModelSettings(**settings["model"])
    backbone = load_foundation(foundation, model, len(store.channels), size).to(compute.device)

    def moments_of(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return token_moments(backbone.forward_features(views))

    sites = np.arange(len(store))
    parts = apply_to_sites(
        compute.compiled(moments_of),
        store,
        sites,
        size,
        compute,
        threads=machine.threads,
        what=what,
    )
    moments = TokenMoments(*parts)
    rows = {kind: reference_sites(store.table, kind) for kind in KINDS}
    print(f"{what}: {len(rows['all']):,} sites of good quality, {len(rows['dmso']):,} with DMSO")
    statistics = {kind: moments.statistics(sites) for kind, sites in rows.items() if len(sites)}
    inputs = {path: crops_checksum(path) for path in crops}
    inputs |= {foundation: file_checksum(foundation)}
    header = describe_run(settings, 0, compute.device, inputs) | {"channels": store.channels}
    save_statistics(outputs["statistics"], statistics, header)
    columns = store.table.filter(regex="^Metadata_|^Quality_ok$")
    write_table(columns.assign(Embedding=list(moments.cls.numpy())), outputs["embeddings"])
