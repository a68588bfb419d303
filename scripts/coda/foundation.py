"""Foundations as jobs: from crop files to weights files, on the device the job was given."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coda.checkpoints import StateFolder, read_header, save_weights, unprefixed
from coda.compute import Compute, explain_memory, fingerprint, launch
from coda.errors import UserError
from coda.files import write_table
from coda.inference import cls_features
from coda.knn import knn_accuracy
from coda.learner import DinoLearner
from coda.machine import Machine
from coda.models import load_tensors
from coda.partners import find_partners
from coda.pretraining import DinoTraining, steps_per_epoch
from coda.provenance import crops_checksum, describe_run, device_name, file_checksum
from coda.selection import class_names, labelled_rows, usable_rows
from coda.settings import DinoSettings, HeadSettings, ModelSettings, ViewSettings
from coda.store import CropStore
from coda.training import as_log


def train_foundation(
    crops: list[str],
    outputs: dict[str, str],
    settings: dict[str, Any],
    seed: int,
    machine: Machine,
    what: str,
    validation: list[str] | None = None,
    start: str | None = None,
) -> None:
    """Train a foundation by DINO: step 1 of the protocol, or step 3 with `start`.

    Parameters
    ----------
    crops
        Crop stores of the plates to train on.
    outputs
        Paths: ``foundation`` (the teacher's backbone, under timm's names), ``networks`` (student,
        teacher, heads and centre, to adapt from; may be left out) and ``log`` (one row an epoch). States for
        resuming lie in a folder beside them until the job is done.
    settings
        Sections of the config: ``model``, ``head``, ``views``, ``training`` (`DinoSettings`),
        ``data`` (wells and partners) and ``knn``.
    seed, machine, what
        Seed, device, and the name for progress lines.
    validation
        Crop stores of labelled validation plates, by which the best epoch is kept. Never given
        when adapting: labels of the target must not choose anything.
    start
        The ``networks`` file of step 1, to adapt from.

    Raises
    ------
    UserError
        On bad settings or data, on collapse, or if a promised GPU is absent.
    """
    inputs = {path: crops_checksum(path) for path in [*crops, *(validation or [])]}
    if start is not None:
        inputs[start] = file_checksum(start)
    job = dict(crops=crops, outputs=outputs, settings=settings, seed=seed, machine=machine)
    job |= dict(what=what, validation=validation, start=start, inputs=inputs)
    job["machine"] = machine.claim()
    launch(_train, machine.gpus, job)


def _train(rank: int, ranks: int, job: dict[str, Any]) -> None:
    """Train as one of `ranks` processes; the first one saves and writes."""
    settings, machine, what, validation = (
        job[name] for name in ("settings", "machine", "what", "validation")
    )
    compute = machine.compute(rank, ranks)
    store = CropStore(job["crops"])
    rows = usable_rows(store.table, settings["data"]["wells"])
    partners = find_partners(
        store.table.iloc[rows].reset_index(drop=True), settings["data"]["partners"]
    )
    first = rank == 0
    if first:
        print(f"{what}: {len(rows):,} of {len(store):,} crops on {device_name(compute.device)}")
        print(f"{what}: partners: {partners.describe()}", flush=True)
    identity = fingerprint(settings, job["seed"], job["inputs"])
    states = StateFolder(Path(job["outputs"]["foundation"]).with_suffix(".states"), identity)
    with (
        states.alone() if first else nullcontext(),
        explain_memory("batch_size, or raise accumulate"),
    ):
        dino = DinoSettings(**settings["training"])
        parts = ranks * dino.accumulate
        learner = DinoLearner(
            channels=len(store.channels),
            steps_per_epoch=steps_per_epoch(len(rows), dino.batch_size, parts),
            compute=compute,
            settings=dino,
            model=ModelSettings(**settings["model"]),
            head=HeadSettings(**settings["head"]),
            views=ViewSettings(**settings["views"]),
            seed=job["seed"],
            start=load_tensors(job["start"]) if job["start"] else None,
        )
        judge = _knn_judge(store, validation, compute, job) if validation else None
        training = DinoTraining(learner, store, rows, partners, machine.threads, judge)
        training.run(states, what, lambda log: write_table(as_log(log), job["outputs"]["log"]))
        if first:
            _write(
                training,
                states,
                job,
                describe_run(settings, job["seed"], compute.device, job["inputs"]),
            )


def _write(
    training: DinoTraining, states: StateFolder, job: dict[str, Any], header: dict[str, Any]
) -> None:
    """Write the weights, with where they come from in their header, and drop the states."""
    tensors = training.result(states)
    header["channels"] = training.store.channels
    header["epoch"] = (
        read_header(states.best)["epoch"] if job["validation"] else training.learner.settings.epochs
    )
    if "networks" in job["outputs"]:
        save_weights(job["outputs"]["networks"], tensors, header)
    save_weights(job["outputs"]["foundation"], unprefixed("teacher.foundation", tensors), header)
    states.remove()


def _knn_judge(
    store: CropStore, validation: list[str], compute: Compute, job: dict[str, Any]
) -> Callable[[nn.Module], float]:
    """Judge by nearest neighbours: the labelled training sites are the bank, the validation plate asks."""
    classes = class_names([store.table])
    asking = CropStore(validation)
    bank, bank_classes = labelled_rows(store.table, classes)
    asked, truth = labelled_rows(asking.table, classes)
    if not len(asked):
        raise UserError(
            "The validation plate has no labelled site of good quality; choose another one."
        )
    settings, threads = job["settings"], job["machine"].threads
    common = dict(size=settings["views"]["global_size"], compute=compute, threads=threads)

    def judge(foundation: nn.Module) -> float:
        known = cls_features(foundation, store=store, sites=bank, **common)
        queries = cls_features(foundation, store=asking, sites=asked, **common)
        labels = torch.from_numpy(bank_classes)
        return knn_accuracy(known, labels, queries, torch.from_numpy(truth), **settings["knn"])

    return judge
