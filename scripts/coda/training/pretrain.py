"""Foundations as jobs: from crop files to weights files, on the device the job was given."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.provenance import describe_run, file_checksum
from coda.training.adaptation_data import mix_sites
from coda.training.adaptation_terms import ConsensusTerm, MomentsTerm, PatchTerm, Term
from coda.training.alignment import TokenStatistics, load_statistics, reference_sites
from coda.training.checkpoints import (
    read_header,
    save_weights,
    training_states,
    unprefixed,
    weights_checksum,
)
from coda.training.compute import Compute, Machine, explain_memory
from coda.training.consensus import compound_consensus
from coda.training.dino_trainer import DinoLearner, PairedSites, check_learning, steps_per_epoch
from coda.training.distributed import Node, launch, run_on_nodes
from coda.training.inference import cls_features
from coda.training.knn import knn_accuracy
from coda.training.model_card import describe_data, write_card
from coda.training.networks import (
    build_foundation,
    load_task_model,
    load_tensors,
    load_weights,
)
from coda.training.settings import (
    AdaptSettings,
    ConsensusSettings,
    HeadSettings,
    ModelSettings,
    ViewSettings,
    WatchSettings,
)
from coda.training.site_selection import check_classes, class_names, labelled_rows, restrict
from coda.training.trainer import Judge, Trainer, any_rank
from coda.training.training_log import TrainingLog
from coda.training.views import check_sizes
from coda.training.vit import cls_tokens


@dataclass(frozen=True)
class FoundationJob:
    """A foundation to train by DINO: step 1 of the protocol, or step 3 with `start`.

    Attributes
    ----------
    crops
        Crop stores of the plates to train on.
    outputs
        Paths: ``foundation`` (the teacher's backbone, under timm's names), ``networks`` (student,
        teacher, heads and centre, to adapt from; may be left out), ``card`` (the model card; may be left
        out) and ``log`` (one row an epoch). States for resuming lie in a folder beside them until the job is done.
    settings
        Sections of the config: ``model``, ``head``, ``views``, ``training`` (`AdaptSettings`, all switches off
        without `start`), ``data`` (wells and partners), with `validation` ``knn``, and ``consensus``
        (`ConsensusSettings`) for an adaptation that holds to one.
    seed, machine, what
        Seed, device, and the name for progress lines.
    validation
        Crop stores of labelled held-out plates, by which the best epoch is kept. Never given
        when adapting: labels of the target must not choose anything.
    start
        The ``networks`` file of step 1, or of an earlier adaptation, to adapt from.
    watch
        How the training is watched; none of it changes what comes out.
    classes
        Classes that the labels lead to expect; with `validation`, the plates must show them all.
    images
        A sentence on where the images come from, for the model card.
    home
        Crop stores of the training source, for the adaptations that see it again (`coda.training.adaptation_data`).
    choice
        Table of the compounds to train on, where not all are;
        see `coda.evaluation.compound_splits`. Plates of `home` keep all.
    task_model, statistics
        Weights of the task model, and statistics of the tokens it was trained on (`coda.training.alignment`),
        for the terms of `AdaptSettings` and the consensus, which need them.
    open_crops
        Opens crop stores of plates to train on: `CropStore`, or what harmonises the target's
        (`coda.crops.harmonised_store`).
    """

    crops: Sequence[str]
    outputs: dict[str, str]
    settings: dict[str, Any]
    seed: int
    machine: Machine
    what: str
    validation: Sequence[str] = ()
    start: str | None = None
    watch: WatchSettings = field(default_factory=WatchSettings)
    classes: Sequence[str] = ()
    images: str = ""
    home: Sequence[str] = ()
    choice: str | None = None
    task_model: str | None = None
    statistics: str | None = None
    open_crops: Callable[[Sequence[str]], CropStore] = CropStore

    @property
    def section(self) -> str:
        """Section of the config that ``settings["training"]`` comes from."""
        return "pretrain" if self.start is None else "adapt"

    def inputs(self) -> dict[str, str]:
        """Checksums of all files that the foundation is made of."""
        crops = self.open_crops([*self.crops, *self.home, *self.validation]).checksums()
        weights = weights_checksum(self.settings["model"]) if self.start is None else {}
        others = (self.start, self.choice, self.task_model, self.statistics)
        return crops | weights | {path: file_checksum(path) for path in others if path}


def train_foundation(job: FoundationJob) -> None:
    """Train a foundation, on all GPUs and nodes the job was given.

    Raises
    ------
    UserError
        On bad settings or data, on collapse, or if a promised GPU is absent.
    """
    if job.machine.nodes > 1 and Node.this() is None:
        run_on_nodes(job.machine.nodes, job.machine.launcher)
        return
    inputs, machine = job.inputs(), job.machine.claim()
    launch(_train, machine.gpus, replace(job, machine=machine), inputs)


def _train(rank: int, ranks: int, job: FoundationJob, inputs: dict[str, str]) -> None:
    """Train as one of `ranks` processes; the first one saves and writes."""
    settings, machine, what = job.settings, job.machine, job.what
    compute, first = machine.compute(rank, ranks), rank == 0
    store = job.open_crops([*job.crops, *job.home])
    if job.validation:
        check_classes(store.table, job.classes)
    own = len(CropStore(job.crops))
    restrict(store, job.choice, own)
    mixture = mix_sites(store.table, own, settings["data"], job.seed)
    # Step 1 has no switch of an adaptation on.
    dino = AdaptSettings(**settings["training"])
    controls = _controls(store, own, dino)
    sites = PairedSites(store, mixture.rows, mixture.partners, mixture.groups, controls)
    if first:
        print(f"{what}: {len(sites.sites):,} of {len(store):,} crops on {compute.describe()}")
        print(f"{what}: partners: {mixture.describe()}", flush=True)
    weights = job.outputs["foundation"]
    states = training_states(weights, compute.precision, settings, job.seed, inputs)
    advice = (
        f"lower {job.section}.batch_size, raise {job.section}.accumulate or set "
        "compute.checkpoint_activations"
    )
    with states.alone() if first else nullcontext(), explain_memory(compute.device, advice):
        group = dist.new_group(backend="gloo") if ranks > 1 else None
        if any_rank(first and states.completed(job.outputs.values()), group):
            return
        learner = DinoLearner(
            channels=len(store.channels),
            steps_per_epoch=steps_per_epoch(mixture.budget, dino, ranks, job.section),
            compute=compute,
            settings=dino,
            model=ModelSettings(**settings["model"]),
            head=HeadSettings(**settings["head"]),
            views=ViewSettings(**settings["views"]),
            seed=job.seed,
            start=load_tensors(job.start) if job.start else None,
            terms=_terms(job, dino, store, mixture.rows[mixture.rows < own], compute),
            frozen_blocks=dino.frozen_blocks,
        )
        side = min(store.height, store.width)
        check_sizes(learner.views, side, learner.teacher.foundation)
        trainer = Trainer(
            learner,
            sites,
            judge=_nearest_neighbours(job, learner, store) if job.validation else None,
            alarm=partial(
                check_learning, prototypes=learner.head.prototypes, patience=job.watch.patience
            ),
            threads=machine.threads,
            watch=job.watch,
        )
        trainer.run(states, what, TrainingLog(job.outputs["log"], job.watch) if first else None)
        if first:
            header = describe_run(settings, job.seed, compute.device, inputs)
            header |= {"what": what, "precision": compute.precision, "ranks": ranks}
            header["training"] = states.folder.name
            table = store.table.iloc[sites.sites].reset_index(drop=True)
            pixel = store.settings["um_per_pixel"]
            header |= {"data": describe_data(table, sites.partners, pixel)}
            header |= {"images": job.images, "channels": store.channels}
            _write(job, *trainer.best(states), header)
            states.remove(job.outputs.values())


def _terms(
    job: FoundationJob,
    training: AdaptSettings,
    store: CropStore,
    target: np.ndarray,
    compute: Compute,
) -> list[Term]:
    """Make the terms of an adaptation's loss that its settings switch on; `target` are its rows of the store."""
    terms: list[Term] = []
    if training.patch_term:
        prototypes = HeadSettings(**job.settings["head"]).prototypes
        terms.append(PatchTerm(training.patch_term, training, prototypes, compute.device))
    if training.hold_moments:
        wanted = _source_controls(job, "adapt.hold_moments")
        terms.append(MomentsTerm(training.hold_moments, wanted, compute.device))
    if "consensus" in job.settings:
        terms.append(_consensus(job, store, target, compute))
    return terms


def _source_controls(job: FoundationJob, key: str) -> TokenStatistics:
    """Load the statistics of the training source's negative controls, which a key of the config needs."""
    known = load_statistics(job.statistics) if job.statistics else {}
    if "dmso" not in known:
        raise UserError(
            f"{key} needs the tokens of the training source's negative controls, and there are none; switch it off, "
            "or take plates that have negative controls (choose, sources)."
        )
    return known["dmso"]


def _controls(store: CropStore, own: int, training: AdaptSettings) -> np.ndarray:
    """Rows of the target's negative controls, if a term reads them; its plates are the first `own` rows."""
    kept = own if training.hold_moments else 0
    rows = reference_sites(store.table.iloc[:kept], "dmso")
    if kept and not len(rows):
        raise UserError(
            "adapt.hold_moments needs negative controls of good quality on the target's plates, and there are none; "
            "set it to 0."
        )
    return rows


def _consensus(
    job: FoundationJob, store: CropStore, target: np.ndarray, compute: Compute
) -> ConsensusTerm:
    """Make the term of the consensus, which the networks that the adaptation starts from find."""
    if job.task_model is None:
        raise UserError("A consensus needs the task model, which this adaptation was not given.")
    settings = ConsensusSettings(**job.settings["consensus"])
    model, header = ModelSettings(**job.settings["model"]), read_header(job.task_model)
    shape = len(store.channels), ViewSettings(**job.settings["views"]).global_size
    foundation = build_foundation(replace(model, weights="random"), *shape)
    weights = unprefixed("teacher.foundation", load_tensors(job.start))
    load_weights(foundation, weights, job.start)
    depth = header["settings"]["training"].get("depth")
    task_model = load_task_model(job.task_model, model, *shape, depth)
    for network in (foundation, task_model):
        network.eval().requires_grad_(False).to(compute.device)
    targets = compound_consensus(
        store,
        target,
        foundation,
        task_model,
        _source_controls(job, "consensus.aligned") if settings.aligned else None,
        job.what,
        torch.tensor(header["proportions"]) if settings.balanced else None,
        size=shape[1],
        compute=compute,
        threads=job.machine.threads,
    )
    return ConsensusTerm(settings.weight, task_model, targets)


def _write(
    job: FoundationJob,
    tensors: dict[str, torch.Tensor],
    row: dict[str, Any],
    header: dict[str, Any],
) -> None:
    """Write the weights, with where they come from in their header; `row` is that of their epoch in the log."""
    header |= {"epoch": row["epoch"], "results": row}
    if job.start:
        header["start"] = read_header(job.start)
    if "networks" in job.outputs:
        save_weights(job.outputs["networks"], tensors, header)
    save_weights(job.outputs["foundation"], unprefixed("teacher.foundation", tensors), header)
    if "card" in job.outputs:
        write_card(job.outputs["card"], Path(job.outputs["foundation"]).name, header)


def _nearest_neighbours(job: FoundationJob, learner: DinoLearner, store: CropStore) -> Judge:
    """Judge by nearest neighbours: those of the held-out plate among the labelled training sites."""
    classes = class_names([store.table])
    held_out = CropStore(job.validation)
    bank, bank_classes = labelled_rows(store.table, classes)
    queries, truth = labelled_rows(held_out.table, classes)
    if not len(queries):
        raise UserError(
            "The held-out plate has no labelled site of good quality; choose another one."
        )
    settings, compute, foundation = job.settings, learner.compute, learner.teacher.foundation
    common = dict(size=learner.views.global_size, compute=compute, threads=job.machine.threads)
    # Compiled once for all its looks, which see every labelled site.
    common |= dict(forward=compute.compiled(partial(cls_tokens, foundation)))
    votes = {name: settings["knn"][name] for name in ("k", "temperature")}

    def accuracy() -> float:
        known = cls_features(foundation, store=store, sites=bank, **common)
        asked = cls_features(foundation, store=held_out, sites=queries, **common)
        labels = torch.from_numpy(bank_classes)
        return knn_accuracy(known, labels, asked, torch.from_numpy(truth), **votes)

    return Judge("knn_accuracy", accuracy, settings["knn"]["every"])
