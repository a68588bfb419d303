"""The network that trainings start from, built once before any of them."""

import os
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from coda.training.checkpoints import save_weights
from coda.training.networks import build_foundation, load_weights
from coda.training.settings import ModelSettings, ViewSettings
from coda.training.training_log import event_writer
from coda.training.views import check_sizes
from coda.versions import software_versions


def prepare_start(
    path: str | os.PathLike,
    model: ModelSettings,
    views: ViewSettings,
    channels: int,
    crop_size: int,
    depths: dict[str, int | None],
    tensorboard: bool = False,
) -> None:
    """Build the network as the config describes it, and keep the ImageNet weights that it starts from.

    What no training could do is so found out in seconds, and a checksum of the file says later which
    weights they were. Jobs that train need no internet.

    Parameters
    ----------
    path
        Where the weights go, under timm's names, with their origin in the header; no tensors where they
        start from a file of the user's, or at random.
    model, views
        Sections of the config.
    channels, crop_size
        Channels of a crop, and its side in pixels.
    depths
        Number of blocks of the classifiers, by the section of the config that says so; None are all.
    tensorboard
        Whether trainings will write events for TensorBoard.

    Raises
    ------
    UserError
        If the network cannot be built, its weights cannot be had or do not fit, the views do not fit the
        crops or the patches, or TensorBoard is asked for and not installed.
    """
    network = build_foundation(model, channels, views.global_size)
    check_sizes(views, crop_size, network)
    for section, depth in depths.items():
        if depth is not None:
            _check_depth(network, model, depth, section)
    if tensorboard:
        event_writer()
    fetched = model.weights == "imagenet"
    header = {"model": asdict(model), "software": software_versions()}
    header["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    if fetched:
        known = ("architecture", "tag", "hf_hub_id", "url", "license")
        header["origin"] = {name: network.pretrained_cfg.get(name) for name in known}
    save_weights(path, network.state_dict() if fetched else {}, header)


def _check_depth(network: nn.Module, model: ModelSettings, depth: int, section: str) -> None:
    """Refuse a classifier that starts from the weights of a network of another depth."""
    if model.weights == "random":
        return
    settings: dict[str, Any] = {"architecture": model.architecture, "options": model.options}
    shape = network.patch_embed.proj.in_channels, network.patch_embed.img_size[0]
    other = build_foundation(ModelSettings(**settings, weights="random"), *shape, depth=depth)
    tensors: dict[str, torch.Tensor] = network.state_dict()
    load_weights(other, tensors, f"model.weights with {section}.depth = {depth}")
