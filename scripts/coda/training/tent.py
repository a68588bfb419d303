"""TENT: the supervised baseline made surer of itself on the target's unlabelled images.

Wang, Shelhamer, Liu, Olshausen and Darrell, "Tent: Fully Test-Time Adaptation by Entropy Minimization"
(ICLR 2021): gain and offset of the normalisation layers follow the gradient of the predictions' entropy, and
nothing else moves. They re-estimate batch statistics as well, which a transformer's layer normalisation does not have.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.files import write_table
from coda.progress import Progress
from coda.provenance import describe_run, file_checksum
from coda.training.checkpoints import read_header, save_weights
from coda.training.compute import Compute, Machine, explain_memory
from coda.training.loader import Loader, epoch_order
from coda.training.networks import load_supervised
from coda.training.settings import ModelSettings, TentSettings
from coda.training.site_selection import usable_rows
from coda.training.trainer import Means
from coda.training.views import centre_view

MOMENTUM = 0.9


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Mean entropy in nats of the predictions, from logits (N, classes)."""
    log_shares = logits.float().log_softmax(dim=1)
    return -(log_shares.exp() * log_shares).sum(dim=1).mean()


def norm_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Gains and offsets of all normalisation layers."""
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
    return [
        parameter
        for module in network.modules()
        if isinstance(module, kinds)
        for parameter in module.parameters(recurse=False)
    ]


def minimise_entropy(
    network: nn.Module,
    store: CropStore,
    sites: np.ndarray,
    size: int,
    settings: TentSettings,
    compute: Compute,
    seed: int,
    threads: int = 1,
    what: str = "tent",
) -> list[dict[str, float]]:
    """Adapt `network` (views to logits) in place on the centre views of `sites`; one row of the log an epoch.

    Raises
    ------
    UserError
        If the entropy stops being a number.
    """
    parameters = norm_parameters(network.eval().requires_grad_(False))
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(parameters, settings.learning_rate, MOMENTUM)
    progress, means, log = Progress(what, settings.epochs * len(sites), "images"), Means(), []
    for epoch in range(settings.epochs):
        order = epoch_order(sites, seed, epoch)
        starts = range(0, len(order), settings.batch_size)
        plan = ((order[start : start + settings.batch_size], None) for start in starts)
        for batch, _ in Loader(store, plan, compute.device, threads, side=size):
            with compute.autocast():
                loss = entropy(network(centre_view(batch, size)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            means.add(loss=loss)
            progress.update(len(batch))
        log.append({"epoch": epoch + 1, **means.take()})
        if not np.isfinite(log[-1]["loss"]):
            raise UserError("The entropy is no longer a number; lower tent.learning_rate.")
    return log


def adapt_supervised(
    crops: list[str],
    weights: str,
    outputs: dict[str, str],
    settings: dict[str, Any],
    seed: int,
    machine: Machine,
    what: str,
    open_crops: Callable[[Sequence[str]], CropStore] = CropStore,
) -> None:
    """Adapt the supervised baseline to the plates that the foundations adapt to, without labels.

    Parameters
    ----------
    crops
        Crop stores of the target's plates.
    weights
        The supervised baseline.
    outputs
        Paths: ``weights`` and ``log`` (one row an epoch; the loss is the entropy).
    settings
        Sections of the config: ``model``, ``image_size``, ``depth``, ``wells`` and ``training`` (`TentSettings`).
    seed, machine, what
        Seed of the order, device, and the name for progress lines.
    open_crops
        Opens the crop stores: `CropStore`, or what harmonises them (`coda.crops.harmonised_store`).
    """
    compute = machine.claim().compute()
    store, header = open_crops(crops), read_header(weights)
    model, size = ModelSettings(**settings["model"]), settings["image_size"]
    network = load_supervised(weights, model, len(store.channels), size, settings["depth"])
    sites = usable_rows(store.table, settings["wells"])
    print(f"{what}: {len(sites):,} of {len(store):,} crops on {compute.describe()}", flush=True)
    tent = TentSettings(**settings["training"])
    with explain_memory(compute.device, "lower tent.batch_size"):
        log = minimise_entropy(
            network.to(compute.device),
            store,
            sites,
            size,
            tent,
            compute,
            seed,
            machine.threads,
            what,
        )
    write_table(pd.DataFrame(log), outputs["log"])
    inputs = store.checksums() | {weights: file_checksum(weights)}
    kept = {name: header[name] for name in ("classes", "channels")} | {
        "precision": compute.precision
    }
    described = describe_run(settings, seed, compute.device, inputs)
    save_weights(outputs["weights"], network.state_dict(), described | kept)
