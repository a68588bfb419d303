"""Step 4 of the protocol: predictions and embeddings of every site of a source, once and in order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.alignment import (
    Alignment,
    TokenStatistics,
    load_statistics,
    measure_moments,
    reference_sites,
)
from coda.training.checkpoints import read_header
from coda.training.compute import Machine, explain_memory
from coda.training.inference import apply_to_sites
from coda.training.networks import OnCls, load_foundation, load_supervised, load_task_model
from coda.training.settings import ModelSettings
from coda.training.site_selection import restrict


def predict_sites(
    crops: list[str],
    classifier: str,
    settings: dict[str, Any],
    machine: Machine,
    what: str,
    foundation: str | None = None,
    alignment: str | None = None,
    statistics: str | None = None,
    choice: str | None = None,
) -> pd.DataFrame:
    """Predict the mechanism of action for every site of the plates.

    Parameters
    ----------
    crops
        Crop stores of the plates, in the order of the result.
    classifier
        Weights of the task model, or of the supervised baseline if there is no `foundation`.
    settings
        Sections of the config: ``model``, ``image_size`` and ``depth`` (of the classifier).
    machine, what
        Device, and the name for progress lines.
    foundation
        Weights of the foundation, adapted or not.
    alignment
        One of `coda.methods.ALIGNMENTS`, to bring the tokens of each plate to those of the training source: by
        all of the plate's sites (``"all"``), their means only (``"means"``), or by its DMSO wells against
        the training plates' (``"dmso"``).
    statistics
        The training source's statistics for it, from `coda.evaluation.alignment.measure_tokens`.
    choice
        Table of the compounds that there are, where not all are; the others count as unlabelled.
        See `coda.evaluation.compound_splits`.

    Returns
    -------
    DataFrame
        One row a site: ``Metadata_*``, ``Quality_ok``, ``Logit_<class>`` and ``Embedding`` (the CLS token).
        Where a plate cannot be aligned these are NaN, and a column ``Reason`` says why.

    Raises
    ------
    UserError
        If the channels of the crops differ from those the classifier was trained on.
    """
    compute = machine.claim().compute()
    store = CropStore(crops)
    restrict(store, choice)
    classes = _classes(classifier, store)
    backbone, head = _networks(classifier, foundation, settings, len(store.channels))
    backbone, head = backbone.to(compute.device), head.to(compute.device)
    mapping = Alignment(backbone.embed_dim).to(compute.device) if alignment else nn.Identity()

    def infer(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = mapping(backbone.forward_features(views))
        return head(tokens), tokens[:, 0]

    infer = compute.compiled(infer)
    inputs = dict(size=settings["image_size"], compute=compute, threads=machine.threads)
    with explain_memory(compute.device, "end other programs that use it, or predict elsewhere"):
        if not alignment:
            sites = np.arange(len(store))
            logits, embedding = apply_to_sites(infer, store, sites, what=what, **inputs)
            return _as_table(store.table, classes, logits, embedding)
        kind = {"all": "all", "means": "all", "dmso": "dmso"}[alignment]
        wanted = load_statistics(statistics).get(kind)
        measured = measure_plates(backbone.forward_features, store, kind, **inputs)
        parts = []
        for plate, (rows, found) in measured.items():
            table = store.table.iloc[rows]
            if wanted is None or found is None:
                who = "the training plates have" if wanted is None else f"plate {plate} has"
                reason = f"{who} no {'DMSO ' * (kind == 'dmso')}site of good quality to align by"
                print(f"{what}: {reason}; left empty.", flush=True)
                parts.append(_empty(table, classes, backbone.embed_dim).assign(Reason=reason))
                continue
            mapping.fit(found, wanted, means_only=alignment == "means")
            name = f"{what}, {plate}"
            logits, embedding = apply_to_sites(infer, store, rows, what=name, **inputs)
            parts.append(_as_table(table, classes, logits, embedding))
    return pd.concat(parts, ignore_index=True)


def measure_plates(
    tokens_of: Callable[[torch.Tensor], torch.Tensor], store: CropStore, kind: str, **inputs
) -> dict[str, tuple[np.ndarray, TokenStatistics | None]]:
    """Rows of each plate, and the statistics of its tokens over the reference sites of `kind` (None without any).

    `inputs` as in `coda.evaluation.alignment.measure_moments`.
    """
    rows = store.table.groupby("Metadata_Plate", sort=False).indices
    reference = np.zeros(len(store), bool)
    reference[reference_sites(store.table, kind)] = True
    sites = np.flatnonzero(reference)
    moments = measure_moments(tokens_of, store, sites, **inputs) if len(sites) else None
    return {
        plate: (
            mine,
            moments.statistics(np.isin(sites, mine)) if reference[mine].any() else None,
        )
        for plate, mine in rows.items()
    }


def _classes(classifier: str, store: CropStore) -> list[str]:
    header = read_header(classifier)
    if header["channels"] != store.channels:
        raise UserError(
            f"{classifier} was trained on the channels {header['channels']}, but the crops have {store.channels}; "
            "set channels in the config and make both again."
        )
    return header["classes"]


def _networks(
    classifier: str, foundation: str | None, settings: dict[str, Any], channels: int
) -> tuple[nn.Module, nn.Module]:
    """Load what makes tokens of views, and what makes logits of tokens."""
    model = ModelSettings(**settings["model"])
    shape = model, channels, settings["image_size"]
    if foundation is None:
        network = load_supervised(classifier, *shape, settings["depth"])
        parts = network.foundation, OnCls(network.classifier)
    else:
        task_model = load_task_model(classifier, *shape, settings["depth"])
        parts = load_foundation(foundation, *shape), task_model
    return tuple(part.eval() for part in parts)


def _as_table(
    table: pd.DataFrame, classes: list[str], logits: torch.Tensor, embedding: torch.Tensor
) -> pd.DataFrame:
    columns = {f"Logit_{name}": logits[:, number].numpy() for number, name in enumerate(classes)}
    columns["Embedding"] = list(embedding.numpy())
    metadata = table.filter(regex="^Metadata_|^Quality_ok$").reset_index(drop=True)
    return pd.concat([metadata, pd.DataFrame(columns)], axis=1)


def _empty(table: pd.DataFrame, classes: list[str], width: int) -> pd.DataFrame:
    """Predictions of sites for which there are none."""
    logits, embedding = (
        torch.full((len(table), size), torch.nan) for size in (len(classes), width)
    )
    return _as_table(table, classes, logits, embedding)
