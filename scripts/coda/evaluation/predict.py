"""Step 4 of the protocol: predictions and embeddings of every site of a source, once and in order."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.alignment import (
    Alignment,
    TokenMoments,
    TokenStatistics,
    load_statistics,
    reference_sites,
    token_moments,
)
from coda.training.checkpoints import read_header
from coda.training.compute import Machine, explain_memory
from coda.training.convolutional import with_plate_norms
from coda.training.inference import apply_to_sites
from coda.training.networks import OnCls, load_foundation, load_supervised, load_task_model
from coda.training.settings import ModelSettings
from coda.training.site_selection import restrict


@dataclass(frozen=True)
class Pipeline:
    """What makes predictions of the crops of a source: one method, as it was trained.

    Attributes
    ----------
    classifier
        Weights of the task model, or of the supervised baseline if there is no `foundation`.
    depth
        Depth of the classifier; None for the architecture's.
    foundation
        Weights of the foundation, adapted or not.
    alignment
        One of `coda.methods.ALIGNMENTS`, to bring the tokens of each plate to those of the training source: by
        all of the plate's sites (``"all"``), their means only (``"means"``), or by its DMSO wells
        against the training plates' (``"dmso"``).
    harmonised
        Whether the crops are harmonised first.
    plate_norms
        Whether batch norms of the supervised baseline take their statistics from each plate (AdaBN).
    """

    classifier: str
    depth: int | None = None
    foundation: str | None = None
    alignment: str | None = None
    harmonised: bool = False
    plate_norms: bool = False

    @property
    def reference(self) -> str:
        """The sites that it is aligned by; see `coda.training.alignment.reference_sites`."""
        return "dmso" if self.alignment == "dmso" else "all"


def predict_sites(
    crops: list[str],
    pipelines: dict[str, Pipeline],
    settings: dict[str, Any],
    machine: Machine,
    what: str,
    statistics: str | None = None,
    choice: str | None = None,
    filters: str | None = None,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Predict the mechanism of action for every site of the plates, by several methods.

    Methods that share a foundation and its images share its tokens: it sees each site once, and once more where some
    of them align tokens, as a plate's statistics must be known before.

    Parameters
    ----------
    crops
        Crop stores of the plates, in the order of the result.
    pipelines
        Each method by its name.
    settings
        Sections of the config: ``model`` and ``image_size``, and the ``model`` of the section ``supervised`` where the
        supervised baseline has another.
    machine, what
        Device, and the name for progress lines.
    statistics
        The training source's statistics for alignment, from `coda.training.alignment.measure_tokens`.
    choice
        Table of the compounds that there are, where not all are; the others count as unlabelled.
        See `coda.evaluation.compound_splits`.
    filters
        The plates' filters, for pipelines that are harmonised; see `coda.crops.harmonised_store`.

    Yields
    ------
    str, DataFrame
        Of each method its name and one row a site: ``Metadata_*``, ``Quality_ok``, ``Logit_<class>`` and
        ``Embedding`` (the CLS token). Where a plate cannot be aligned these are NaN, and a column ``Reason`` says why.

    Raises
    ------
    UserError
        If the channels of the crops differ from those a classifier was trained on.
    """
    compute = machine.claim().compute()
    stores = {False: CropStore(crops)}
    if any(pipeline.harmonised for pipeline in pipelines.values()):
        stores[True] = HarmonisedStore(crops, filters)
    for store in stores.values():
        restrict(store, choice)
    wanted = load_statistics(statistics) if statistics else {}
    groups: dict[tuple[str, bool], dict[str, Pipeline]] = defaultdict(dict)
    for name, pipeline in pipelines.items():
        # The supervised baseline has its foundation in the same file.
        weights = pipeline.foundation or pipeline.classifier
        groups[weights, pipeline.harmonised][name] = pipeline
    for (_, harmonised), group in groups.items():
        inputs = dict(size=settings["image_size"], compute=compute, threads=machine.threads)
        with explain_memory(compute.device, "end other programs that use it, or predict elsewhere"):
            yield from _predict_group(stores[harmonised], group, settings, wanted, what, inputs)


def _predict_group(
    store: CropStore,
    pipelines: dict[str, Pipeline],
    settings: dict[str, Any],
    wanted: dict[str, TokenStatistics],
    what: str,
    inputs: dict[str, Any],
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Predict by methods that share a foundation and its images; see `predict_sites`."""
    compute = inputs["compute"]
    by_plate = [name for name, pipeline in pipelines.items() if pipeline.plate_norms]
    plain = [
        name
        for name, pipeline in pipelines.items()
        if not pipeline.alignment and not pipeline.plate_norms
    ]
    aligned = [name for name, pipeline in pipelines.items() if pipeline.alignment]
    classes = {name: _classes(pipeline.classifier, store) for name, pipeline in pipelines.items()}
    backbone, heads = _networks(pipelines, settings, len(store.channels))
    for network in (backbone, *heads.values()):
        network.eval().to(compute.device)
    mappings = {name: Alignment(backbone.embed_dim).to(compute.device) for name in aligned}

    def first(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = backbone.forward_features(views)
        moments = token_moments(tokens) if aligned else (tokens[:, 0],)
        return *moments, *(heads[name](tokens) for name in plain)

    def second(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = backbone.forward_features(views)
        mapped = [mappings[name](tokens) for name in aligned]
        logits = (heads[name](each) for name, each in zip(aligned, mapped, strict=True))
        return *(each[:, 0] for each in mapped), *logits

    for name in by_plate:
        yield (
            name,
            _with_plate_norms(
                store, backbone, heads[name], classes[name], f"{what}, {name}", inputs
            ),
        )
    if len(by_plate) == len(pipelines):
        return
    seen = apply_to_sites(
        compute.compiled(first),
        store,
        np.arange(len(store)),
        what=f"{what}, {', '.join(plain) or 'statistics'}",
        **inputs,
    )
    for name, logits in zip(plain, seen[len(seen) - len(plain) :], strict=True):
        yield name, _as_table(store.table, classes[name], logits, seen[0])
    if not aligned:
        return
    moments = TokenMoments(*seen[:3])
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in aligned}
    apply = compute.compiled(second)
    for plate, rows in store.table.groupby("Metadata_Plate", sort=False).indices.items():
        table = store.table.iloc[rows]
        reasons = {}
        for name in aligned:
            pipeline = pipelines[name]
            reference = rows[reference_sites(table, pipeline.reference)]
            reasons[name] = _cannot_align(plate, pipeline.reference, wanted, reference)
            if not reasons[name]:
                mappings[name].fit(
                    moments.statistics(reference),
                    wanted[pipeline.reference],
                    means_only=pipeline.alignment == "means",
                )
        mapped = apply_to_sites(
            apply, store, rows, what=f"{what}, {', '.join(aligned)}, {plate}", **inputs
        )
        for number, name in enumerate(aligned):
            if reasons[name]:
                print(f"{what}, {name}: {reasons[name]}; left empty.", flush=True)
                part = _empty(table, classes[name], backbone.embed_dim).assign(Reason=reasons[name])
            else:
                embedding, logits = mapped[number], mapped[len(aligned) + number]
                part = _as_table(table, classes[name], logits, embedding)
            parts[name].append(part)
    for name in aligned:
        yield name, pd.concat(parts[name], ignore_index=True)


def _with_plate_norms(
    store: CropStore,
    backbone: nn.Module,
    head: nn.Module,
    classes: list[str],
    what: str,
    inputs: dict[str, Any],
) -> pd.DataFrame:
    """Predict plate after plate, by a network whose batch norms have the plate's statistics."""
    whole, parts = nn.Sequential(_Tokens(backbone), head), []
    for rows, adapted in with_plate_norms(whole, store, **inputs):

        def seen(views: torch.Tensor, network: nn.Sequential = adapted) -> tuple[torch.Tensor, ...]:
            tokens = network[0](views)
            return tokens[:, 0], network[1](tokens)

        embedding, logits = apply_to_sites(seen, store, rows, what=what, **inputs)
        parts.append(_as_table(store.table.iloc[rows], classes, logits, embedding).set_index(rows))
    return pd.concat(parts).sort_index().reset_index(drop=True)


class _Tokens(nn.Module):
    """What makes tokens of views, as a module."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return self.backbone.forward_features(views)


def _cannot_align(
    plate: str, kind: str, wanted: dict[str, TokenStatistics], reference: np.ndarray
) -> str | None:
    """Say why a plate cannot be aligned by the reference sites of a kind, if so."""
    if kind in wanted and len(reference):
        return None
    who = f"plate {plate} has" if kind in wanted else "the training plates have"
    return f"{who} no {'DMSO ' * (kind == 'dmso')}site of good quality to align by"


def _classes(classifier: str, store: CropStore) -> list[str]:
    header = read_header(classifier)
    if header["channels"] != store.channels:
        raise UserError(
            f"{classifier} was trained on the channels {header['channels']}, but the crops have {store.channels}; "
            "set channels in the config and make both again."
        )
    return header["classes"]


def _networks(
    pipelines: dict[str, Pipeline], settings: dict[str, Any], channels: int
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Load what makes tokens of views, once, and of each method what makes logits of tokens."""
    shape = ModelSettings(**settings["model"]), channels, settings["image_size"]
    foundation = next(iter(pipelines.values())).foundation
    backbone = load_foundation(foundation, *shape) if foundation else None
    heads: dict[str, nn.Module] = {}
    for name, pipeline in pipelines.items():
        if foundation is None:
            model = ModelSettings(**settings.get("supervised", settings)["model"])
            network = load_supervised(pipeline.classifier, model, *shape[1:], pipeline.depth)
            backbone, heads[name] = network.foundation, OnCls(network.classifier)
        else:
            heads[name] = load_task_model(pipeline.classifier, *shape, pipeline.depth)
    return backbone, heads


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
