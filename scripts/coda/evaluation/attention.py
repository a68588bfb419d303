"""Where networks look: attention over crops, and how a call changes when a channel is blanked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from timm.layers import Attention
from torch import nn

from coda.columns import CHANGE
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.checkpoints import read_header
from coda.training.compute import Machine
from coda.training.inference import apply_to_sites
from coda.training.networks import load_foundation, load_task_model
from coda.training.settings import ModelSettings

MECHANISMS = 8  # as many fit a page
SITES = 8  # of each mechanism


def explain_pair(
    home: CropStore,
    methods: Mapping[str, tuple[str, CropStore]],
    classifier: str,
    settings: Mapping[str, Any],
    machine: Machine,
) -> pd.DataFrame:
    """Explain some calls of each mechanism, of the training source by the first method and of a target by all.

    Parameters
    ----------
    home
        Crops of the training source.
    methods
        Of each method the weights of its foundation, and the crops of the target as it sees them, harmonised or not;
        the first was not adapted.
    classifier
        Weights of the task model.
    settings
        Sections of the config: ``model``, ``image_size`` and the task model's ``depth``.
    machine
        What to compute with.

    Returns
    -------
    pandas.DataFrame
        What `explain_sites` gives, with a column Method.

    Raises
    ------
    UserError
        If no crop of the target has a mechanism that the classifier knows.
    """
    compute = machine.claim().compute()
    classes = read_header(classifier)["classes"]
    _, away = next(iter(methods.values()))
    moas = shown_mechanisms(home.table, away.table, classes)
    if not moas:
        raise UserError("There are no labelled crops to explain; check the labels table.")
    shape = ModelSettings(**settings["model"]), len(home.channels), settings["image_size"]
    task_model = load_task_model(classifier, *shape, settings["depth"]).eval().to(compute.device)
    inputs = dict(size=settings["image_size"], compute=compute, threads=machine.threads)
    tables = []
    for number, (method, (weights, target)) in enumerate(methods.items()):
        networks = load_foundation(weights, *shape).to(compute.device), task_model
        for store in [target] if number else [home, target]:
            rows = chosen_sites(store.table, moas)
            if len(rows):
                table = explain_sites(store, rows, *networks, classes, **inputs)
                tables.append(table.assign(Method=method))
    return pd.concat(tables, ignore_index=True)


def chosen_sites(table: pd.DataFrame, moas: Sequence[str], seed: int = 0) -> np.ndarray:
    """Choose up to `SITES` crops of each mechanism, of good quality if there are any.

    Parameters
    ----------
    table
        A store's table.
    moas
        Mechanisms of action.
    seed
        Seed of the choice.

    Returns
    -------
    int array, shape (n,)
        Rows of the table, mechanism by mechanism.
    """
    random, rows = np.random.default_rng(seed), []
    good = table.get("Quality_ok", pd.Series(True, table.index)).to_numpy(bool)
    for moa in moas:
        mine = np.flatnonzero(table["Metadata_moa"] == moa)
        mine = mine[good[mine]] if good[mine].any() else mine
        rows.append(random.permutation(mine)[:SITES])
    return np.concatenate(rows).astype(np.int64)


def shown_mechanisms(home: pd.DataFrame, target: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """Give at most `MECHANISMS` classes that a target has, in order: first those that both sources have most of."""
    counts = [table["Metadata_moa"].value_counts() for table in (home, target)]
    counts = pd.concat(counts, axis=1, keys=["home", "target"]).reindex(sorted(classes)).fillna(0)
    there = counts[counts["target"] > 0]
    common = there.min(axis=1).sort_values(ascending=False, kind="stable")
    return sorted(common.index[:MECHANISMS])


def explain_sites(
    store: CropStore,
    rows: np.ndarray,
    foundation: nn.Module,
    task_model: nn.Module,
    classes: Sequence[str],
    **inputs,
) -> pd.DataFrame:
    """Say of crops what they are called, where the networks look, and what each channel does to the call.

    A blanked channel has its mean in every pixel. As each channel of a view is standardised, that mean is 0,
    whatever the lab. The change is that of the probability of the class that the whole crop is called.

    Parameters
    ----------
    store, rows
        The crops, and which of them.
    foundation, task_model
        The networks, on the device, in evaluation mode.
    classes
        Classes of the task model in their order.
    inputs
        ``size``, ``compute`` and ``threads`` as in `coda.training.inference.apply_to_sites`.

    Returns
    -------
    pandas.DataFrame
        A row a crop: ``Metadata_*``, Call, Probability, Attention (`attention_maps`, row by row) and
        ``Change_<channel>``, -1 to 1.
    """

    def explained(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps, logits = attention_maps(foundation, task_model, views)
        whole = logits.softmax(dim=1)
        chance, call = whole.max(dim=1)
        changes = []
        for channel in range(views.shape[1]):
            blanked = views.clone()
            blanked[:, channel] = 0
            now = task_model(foundation.forward_features(blanked)).softmax(dim=1)
            changes.append(now.gather(1, call[:, None])[:, 0] - chance)
        return call, chance, maps.flatten(1), torch.stack(changes, dim=1)

    call, chance, maps, changes = apply_to_sites(explained, store, rows, batch_size=64, **inputs)
    table = store.table.iloc[rows].filter(like="Metadata_").reset_index(drop=True)
    table["Call"] = np.array(classes)[call.long()]
    table["Probability"], table["Attention"] = chance.numpy(), list(maps.numpy())
    named = [CHANGE + channel for channel in store.channels]
    return pd.concat([table, pd.DataFrame(changes.numpy(), columns=named)], axis=1)


def attention_maps(
    foundation: nn.Module, task_model: nn.Module, views: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the attention that the token which is classified pays to each patch of views.

    It is that of the CLS token in the task model's last block, as Caron et al. (2021), Emerging properties in
    self-supervised vision transformers, show it (section 4.2.2), as the mean over heads.

    Parameters
    ----------
    foundation, task_model
        The networks, in evaluation mode.
    views : float tensor, shape (N, channels, size, size)
        Standardised views.

    Returns
    -------
    maps : float32 tensor, shape (N, patches down, patches across)
        Each adds up to at most 1; the rest goes to tokens that are no patches. NaN where the block has
        several attention layers side by side.
    logits : float32 tensor, shape (N, classes)
    """
    tokens = foundation.forward_features(views)
    shape = foundation.patch_embed.dynamic_feat_size(views.shape[-2:])
    *blocks, last = task_model.blocks
    if not hasattr(last, "attn"):
        return torch.full((len(views), *shape), torch.nan), task_model(tokens)
    seen = task_model.projector(tokens)
    for block in blocks:
        seen = block(seen)
    rows = attention_of(last.attn, last.norm1(seen))
    # Patches stand last; before them the CLS token and what else a network may have.
    return rows[:, 0, -shape[0] * shape[1] :].unflatten(1, shape), task_model(tokens)


def attention_of(layer: Attention, tokens: torch.Tensor) -> torch.Tensor:
    """Give the attention of each token to all, (N, tokens, tokens), as the mean over a layer's heads."""
    parts = layer.qkv(tokens).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = layer.q_norm(parts[0]), layer.k_norm(parts[1])
    return (layer.scale * query @ key.transpose(-2, -1)).float().softmax(dim=-1).mean(dim=1)
