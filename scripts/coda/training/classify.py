"""Classifiers as jobs: the task model on a frozen foundation, and the supervised baseline."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from coda.crops.store import CropStore, crops_checksum
from coda.provenance import describe_run, file_checksum
from coda.training.checkpoints import save_weights, training_states, weights_checksum
from coda.training.classifier_trainer import ClassifierLearner, LabelledSites
from coda.training.compute import Machine, explain_memory, seed_everything
from coda.training.networks import (
    build_supervised,
    build_task_model,
    load_foundation,
)
from coda.training.plate_batches import PlateBatches
from coda.training.settings import ModelSettings, TaskSettings, ViewSettings, WatchSettings
from coda.training.site_selection import (
    check_classes,
    class_names,
    labelled_rows,
    proportions_of,
    restrict,
    shuffle_labels,
)
from coda.training.trainer import Judge, Trainer
from coda.training.training_log import TrainingLog
from coda.training.views import check_sizes


def train_classifier(
    crops: list[str],
    validation: list[str],
    outputs: dict[str, str],
    settings: dict[str, Any],
    seed: int,
    machine: Machine,
    what: str,
    foundation: str | None = None,
    watch: WatchSettings | None = None,
    expected: Sequence[str] = (),
    shuffled: bool = False,
    choice: str | None = None,
) -> None:
    """Train the task model on a frozen `foundation` (step 2), or without one the supervised baseline.

    Parameters
    ----------
    crops, validation
        Crop stores of the labelled training plates, and of the held-out plate of the same source.
    outputs
        Paths: ``weights`` (the header has the class names) and ``log`` (one row an epoch).
    settings
        Sections of the config: ``model``, ``views`` and ``training`` (`TaskSettings`).
    seed, machine, what
        Seed, device, and the name for progress lines.
    foundation
        Weights of the frozen foundation.
    watch
        How the training is watched; none of it changes what comes out.
    expected
        Classes that the labels lead to expect; the training plates must show them all.
    shuffled
        Whether to learn labels that are permuted between compounds: a control that must stand at chance.
    choice
        Table of the compounds to learn from and to choose the epoch by, where not all are;
        see `coda.evaluation.compound_splits`.

    Raises
    ------
    UserError
        On bad settings or data, or if a promised GPU is absent.
    """
    compute, watch = machine.claim().compute(), watch or WatchSettings()
    inputs = {path: crops_checksum(path) for path in [*crops, *validation]}
    inputs |= weights_checksum(settings["model"])
    inputs |= {path: file_checksum(path) for path in (foundation, choice) if path is not None}
    stores = CropStore(crops), CropStore(validation)
    check_classes(stores[0].table, expected)
    for store in stores:
        restrict(store, choice)
    tables = [store.table for store in stores]
    classes = class_names(tables[:1])
    tables = shuffle_labels(tables, seed) if shuffled else tables
    by_plates = settings["model"].get("convolutional", False)
    kind = PlateBatches if by_plates else LabelledSites
    train, held_out = (
        kind(store, *labelled_rows(table, classes))
        for store, table in zip(stores, tables, strict=True)
    )
    model, views = ModelSettings(**settings["model"]), ViewSettings(**settings["views"])
    training = TaskSettings(**settings["training"])
    seed_everything(seed)
    shape = (len(stores[0].channels), views.global_size)
    if foundation is None:
        classifier = build_supervised(
            model, len(classes), *shape, training.depth, training.drop_path
        )
        side = min(stores[0].height, stores[0].width)
        check_sizes(views, side, classifier.foundation, ("global_size",))
        features = nn.Identity()
    else:
        frozen = load_foundation(foundation, model, *shape).to(compute.device)
        classifier = build_task_model(
            model, training.depth, len(classes), *shape, training.drop_path
        )

        def features(images: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return frozen.forward_features(images)

    print(f"{what}: {len(train.sites):,} labelled sites on {compute.describe()}", flush=True)
    # How batches are cut decides what a step is, so a state of another way is not gone on from.
    identity = settings, seed, inputs, *(["plates"] if by_plates else [])
    states = training_states(outputs["weights"], compute.precision, *identity)
    section = "supervise" if foundation is None else "classify"
    with states.alone(), explain_memory(compute.device, f"lower {section}.batch_size"):
        if states.completed(outputs.values()):
            return
        learner = ClassifierLearner(
            features=features,
            classifier=classifier.to(compute.device),
            compute=compute,
            settings=training,
            views=views,
            seed=seed,
            sites_per_epoch=len(train.sites),
            steps_per_epoch=train.steps_per_epoch(training.batch_size),
        )
        judge = Judge("validation_accuracy", lambda: held_out.accuracy(learner, machine.threads))
        trainer = Trainer(learner, train, judge, threads=machine.threads, watch=watch)
        trainer.run(states, what, TrainingLog(outputs["log"], watch))
        tensors, row = trainer.best(states)
        header = describe_run(settings, seed, compute.device, inputs)
        header |= {"what": what, "precision": compute.precision}
        header |= {"classes": classes, "channels": stores[0].channels}
        header["proportions"] = proportions_of(stores[0].table, classes)
        header |= {"epoch": row["epoch"], "training": states.folder.name}
        save_weights(outputs["weights"], tensors, header)
        states.remove(outputs.values())
