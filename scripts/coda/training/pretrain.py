"""Foundations as jobs: from crop files to weights files, on the device the job was given."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coda.crops.store import CropStore, crops_checksum
from coda.errors import UserError
from coda.provenance import describe_run, device_name, file_checksum
from coda.training.adaptation_data import mix_sites
from coda.training.checkpoints import (
    StateFolder,
    read_header,
    save_weights,
    unprefixed,
    weights_checksum,
)
from coda.training.compute import Compute, Machine, explain_memory, fingerprint
from coda.training.dino_trainer import DinoLearner
from coda.training.distributed import launch
from coda.training.inference import cls_features
from coda.training.knn import knn_accuracy
from coda.training.model_card import describe_data, write_card
from coda.training.networks import load_tensors
from coda.training.pretraining import DinoTraining, steps_per_epoch
from coda.training.settings import (
    DinoSettings,
    HeadSettings,
    ModelSettings,
    ViewSettings,
    WatchSettings,
)
from coda.training.site_selection import check_classes, class_names, labelled_rows, restrict
from coda.training.training_log import TrainingLog
from coda.training.views import check_sizes


def train_foundation(
    crops: list[str],
    outputs: dict[str, str],
    settings: dict[str, Any],
    seed: int,
    machine: Machine,
    what: str,
    validation: list[str] | None = None,
    start: str | None = None,
    watch: WatchSettings | None = None,
    classes: Sequence[str] = (),
    images: str = "",
    home: Sequence[str] = (),
    choice: str | None = None,
) -> None:
    """Train a foundation by DINO: step 1 of the protocol, or step 3 with `start`.

    Parameters
    ----------
    crops
        Crop stores of the plates to train on.
    outputs
        Paths: ``foundation`` (the teacher's backbone, under timm's names), ``networks`` (student,
        teacher, heads and centre, to adapt from; may be left out), ``card`` (the model card; may be left
        out) and ``log`` (one row an epoch). States for resuming lie in a folder beside them until the job is done.
    settings
        Sections of the config: ``model``, ``head``, ``views``, ``training`` (`DinoSettings`),
        ``data`` (wells and partners) and, with `validation`, ``knn``.
    seed, machine, what
        Seed, device, and the name for progress lines.
    validation
        Crop stores of labelled validation plates, by which the best epoch is kept. Never given
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

    Raises
    ------
    UserError
        On bad settings or data, on collapse, or if a promised GPU is absent.
    """
    inputs = {path: crops_checksum(path) for path in [*crops, *home, *(validation or [])]}
    inputs |= weights_checksum(settings["model"]) if start is None else {}
    inputs |= {path: file_checksum(path) for path in (start, choice) if path is not None}
    job = dict(crops=crops, outputs=outputs, settings=settings, seed=seed, machine=machine)
    job |= dict(home=home, what=what, validation=validation, start=start, inputs=inputs)
    job |= dict(watch=watch or WatchSettings(), classes=classes, images=images, choice=choice)
    job["machine"] = machine.claim()
    launch(_train, machine.gpus, job)


def _train(rank: int, ranks: int, job: dict[str, Any]) -> None:
    """Train as one of `ranks` processes; the first one saves and writes."""
    settings, machine, what, start = (
        job[name] for name in ("settings", "machine", "what", "start")
    )
    compute, first = machine.compute(rank, ranks), rank == 0
    store = CropStore([*job["crops"], *job["home"]])
    if job["validation"]:
        check_classes(store.table, job["classes"])
    own = len(CropStore(job["crops"]))
    restrict(store, job["choice"], own)
    mixture = mix_sites(store.table, own, settings["data"], job["seed"])
    rows, partners = mixture.rows, mixture.partners
    if first:
        print(f"{what}: {len(rows):,} of {len(store):,} crops on {device_name(compute.device)}")
        print(f"{what}: partners: {mixture.describe()}", flush=True)
    identity = fingerprint(settings, job["seed"], job["inputs"], machine.precision)
    states = StateFolder(Path(job["outputs"]["foundation"]).with_suffix(".states"), identity)
    section = "pretrain" if start is None else "adapt"
    advice = f"lower {section}.batch_size, raise {section}.accumulate or set compute.checkpoint_activations"
    with states.alone() if first else nullcontext(), explain_memory(compute.device, advice):
        dino = DinoSettings(**settings["training"])
        learner = DinoLearner(
            channels=len(store.channels),
            steps_per_epoch=steps_per_epoch(mixture.budget, dino, ranks, section),
            compute=compute,
            settings=dino,
            model=ModelSettings(**settings["model"]),
            head=HeadSettings(**settings["head"]),
            views=ViewSettings(**settings["views"]),
            seed=job["seed"],
            start=load_tensors(start) if start else None,
        )
        side = min(store.height, store.width)
        check_sizes(learner.views, side, learner.teacher.foundation)
        training = DinoTraining(learner, store, rows, partners, machine.threads, watch=job["watch"])
        training.groups = mixture.groups
        if job["validation"]:
            training.validate = _knn_judge(learner.teacher.foundation, store, compute, job)
            training.validate_every = settings["knn"]["every"]
        report = TrainingLog(job["outputs"]["log"], job["watch"]) if first else None
        training.run(states, what, report)
        if first:
            header = describe_run(settings, job["seed"], compute.device, job["inputs"])
            header |= {"what": what, "precision": machine.precision, "ranks": ranks}
            table = store.table.iloc[rows].reset_index(drop=True)
            header |= {"data": describe_data(table, partners, store.settings["um_per_pixel"])}
            header |= {"images": job["images"]}
            _write(training, states, job, header)


def _write(
    training: DinoTraining, states: StateFolder, job: dict[str, Any], header: dict[str, Any]
) -> None:
    """Write the weights, with where they come from in their header, and drop the states."""
    tensors = training.result(states)
    header["channels"] = training.store.channels
    header["epoch"] = (
        read_header(states.best)["epoch"] if job["validation"] else training.learner.settings.epochs
    )
    header["results"] = training.log[header["epoch"] - 1]
    if job["start"]:
        header["start"] = read_header(job["start"])
    if "networks" in job["outputs"]:
        save_weights(job["outputs"]["networks"], tensors, header)
    save_weights(job["outputs"]["foundation"], unprefixed("teacher.foundation", tensors), header)
    if "card" in job["outputs"]:
        write_card(job["outputs"]["card"], Path(job["outputs"]["foundation"]).name, header)
    states.remove()


def _knn_judge(
    foundation: nn.Module, store: CropStore, compute: Compute, job: dict[str, Any]
) -> Callable[[], float]:
    """Judge `foundation` by nearest neighbours: the labelled training sites are the bank, the validation plate asks."""
    classes = class_names([store.table])
    asking = CropStore(job["validation"])
    bank, bank_classes = labelled_rows(store.table, classes)
    asked, truth = labelled_rows(asking.table, classes)
    if not len(asked):
        raise UserError(
            "The validation plate has no labelled site of good quality; choose another one."
        )
    settings, threads = job["settings"], job["machine"].threads
    common = dict(size=settings["views"]["global_size"], compute=compute, threads=threads)
    # Compiled once for all its looks, which see every labelled site.
    common |= dict(forward=compute.compiled(foundation.forward_features))
    votes = {name: settings["knn"][name] for name in ("k", "temperature")}

    def judge() -> float:
        known = cls_features(foundation, store=store, sites=bank, **common)
        queries = cls_features(foundation, store=asking, sites=asked, **common)
        labels = torch.from_numpy(bank_classes)
        return knn_accuracy(known, labels, queries, torch.from_numpy(truth), **votes)

    return judge
