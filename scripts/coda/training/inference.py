"""Networks over many sites: centre view of each, once, in order."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from coda.crops.store import CropStore
from coda.progress import Progress
from coda.training.compute import Compute
from coda.training.loader import Loader
from coda.training.views import centre_view
from coda.training.vit import cls_tokens


@torch.inference_mode()
def apply_to_sites(
    function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
    store: CropStore,
    sites: np.ndarray,
    size: int,
    compute: Compute,
    batch_size: int = 256,
    threads: int = 1,
    what: str | None = None,
) -> tuple[torch.Tensor, ...]:
    """Apply `function` to the centre view of every site.

    Parameters
    ----------
    function
        Maps views (N, C, size, size) to a tuple of tensors (N, ...).
    store, sites
        The crops, and which of them.
    size
        Side of the view in pixels.
    compute
        Device and precision.
    batch_size, threads
        Views at once, and threads that gather them.
    what
        Name for progress lines; silent by default.

    Returns
    -------
    tuple of float32 tensors, shape (sites, ...)
        On the CPU, in the order of `sites`.
    """
    count = len(sites)
    if compute.compile:  # for every size of a batch anew, so the last one is filled up
        sites = np.concatenate([sites, sites[-1:].repeat(-count % batch_size)])
    plan = ((sites[start : start + batch_size], None) for start in range(0, len(sites), batch_size))
    progress = Progress(what, len(sites), "images") if what else None
    results = []
    for batch, _ in Loader(store, plan, compute.device, threads, side=size):
        with compute.autocast():
            outputs = function(centre_view(batch, size))
        results.append([output.float() for output in outputs])
        if progress:
            progress.update(len(batch))
    return tuple(torch.cat(parts)[:count].cpu() for parts in zip(*results, strict=True))


def cls_features(
    foundation: nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
    **inputs,
) -> torch.Tensor:
    """CLS features of sites, float32 (sites, width).

    Parameters
    ----------
    foundation
        The network; it computes as in evaluation, and is as it was afterwards.
    forward
        Its `cls_tokens` where that is compiled.
    inputs
        As in `apply_to_sites`.
    """
    was_training, forward = foundation.training, forward or partial(cls_tokens, foundation)
    foundation.eval()
    (features,) = apply_to_sites(lambda views: (forward(views),), **inputs)
    foundation.train(was_training)
    return features
