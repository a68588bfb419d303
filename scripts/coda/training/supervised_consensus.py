"""The supervised network, trained on towards what it finds in all wells of a compound, without labels.

Its batch norms take the statistics of each plate (`coda.training.convolutional.with_plate_norms`) while its calls are
gathered; the mean over a compound's wells, balanced as in `coda.training.consensus`, is what its features learn to give
for each image. Its classifier stays as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.provenance import describe_run, file_checksum
from coda.training.checkpoints import read_header, save_weights, training_states
from coda.training.classifier_trainer import ClassifierLearner, LabelledSites
from coda.training.compute import Machine, explain_memory
from coda.training.consensus import agreed, tell_consensus, treated_sites
from coda.training.convolutional import with_plate_norms
from coda.training.inference import apply_to_sites
from coda.training.networks import load_supervised
from coda.training.optim import warmup_cosine
from coda.training.settings import AdaptSettings, ModelSettings, ViewSettings, WatchSettings
from coda.training.site_selection import usable_rows
from coda.training.trainer import Trainer
from coda.training.training_log import TrainingLog


class ConsensusLearner(ClassifierLearner):
    """A classifier that learns a consensus, with the rates of an adaptation."""

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        settings = self.settings
        warmup = settings.warmup_epochs * self.steps_per_epoch
        return warmup_cosine(
            self.step, self.steps, warmup, settings.learning_rate, settings.final_learning_rate
        )


def plate_norm_consensus(
    store: CropStore,
    rows: np.ndarray,
    network: nn.Module,
    what: str,
    proportions: torch.Tensor | None = None,
    **inputs: Any,
) -> torch.Tensor:
    """Give each site what a network, its batch norms those of the plate, finds in all sites of its compound.

    Parameters
    ----------
    store, rows
        The crops, and which of them belong together: sites of the target.
    network
        Maps views to logits; on the device.
    what, proportions
        As in `coda.training.consensus.agreed`.
    inputs
        ``size``, ``compute`` and ``threads``, as in `coda.training.inference.apply_to_sites`.

    Returns
    -------
    float32 tensor, shape (rows of the store, classes)
        Zeros where there is no consensus.

    Raises
    ------
    UserError
        If no site has a compound.
    """
    treated, votes, voters = treated_sites(store.table, rows), [], []
    for on_plate, adapted in with_plate_norms(network, store, **inputs):

        def vote(views: torch.Tensor, adapted: nn.Module = adapted) -> tuple[torch.Tensor, ...]:
            return (F.log_softmax(adapted(views).float(), dim=-1),)

        asked = np.intersect1d(on_plate, treated)
        if len(asked):
            votes += apply_to_sites(vote, store, asked, **inputs)
            voters.append(asked)
    if not votes:
        raise UserError(
            f"{what}: the target has no site of good quality with a compound, so there is no consensus to learn; leave "
            "supervised_consensus out of methods."
        )
    tell_consensus(what, store.table, np.concatenate(voters))
    return agreed(store.table, treated, np.concatenate(voters), torch.cat(votes), proportions)


def adapt_to_consensus(
    crops: list[str],
    weights: str,
    outputs: dict[str, str],
    settings: dict[str, Any],
    seed: int,
    machine: Machine,
    what: str,
    open_crops: Callable[[Sequence[str]], CropStore] = CropStore,
    watch: WatchSettings | None = None,
) -> None:
    """Adapt the supervised network to the plates that the foundations adapt to, without labels.

    Parameters
    ----------
    crops
        Crop stores of the target's plates.
    weights
        The supervised network, which has batch norms.
    outputs
        Paths: ``weights`` and ``log`` (one row an epoch; the loss is the cross entropy with the consensus).
    settings
        ``model``, ``views``, ``depth``, ``wells`` and ``training`` (`AdaptSettings`) as in the config; ``balanced``,
        whether the consensus gives each class the share of compounds that it has in the training source.
    seed, machine, what
        Seed, device, and the name for progress lines.
    open_crops
        Opens the crop stores: `CropStore`, or what harmonises them (`coda.crops.harmonised_store`).
    watch
        How the training is watched; none of it changes what comes out.

    Raises
    ------
    UserError
        If no site has a compound, or the loss stops being a number.
    """
    compute, watch = machine.claim().compute(), watch or WatchSettings()
    store, header = open_crops(crops), read_header(weights)
    model, views = ModelSettings(**settings["model"]), ViewSettings(**settings["views"])
    size, training = views.global_size, AdaptSettings(**settings["training"])
    network = load_supervised(weights, model, len(store.channels), size, settings["depth"])
    network.to(compute.device)
    sites = usable_rows(store.table, settings["wells"])
    print(f"{what}: {len(sites):,} of {len(store):,} crops on {compute.describe()}", flush=True)
    inputs = store.checksums() | {weights: file_checksum(weights)}
    states = training_states(outputs["weights"], compute.precision, settings, seed, inputs)
    with states.alone(), explain_memory(compute.device, "lower adapt.batch_size"):
        if states.completed(outputs.values()):
            return
        proportions = torch.tensor(header["proportions"]) if settings["balanced"] else None
        consensus = plate_norm_consensus(
            store, sites, network.eval(), what, proportions,
            size=size, compute=compute, threads=machine.threads,
        )  # fmt: skip
        rows = torch.nonzero(consensus.sum(dim=1))[:, 0]
        batches = LabelledSites(store, rows.numpy(), consensus[rows].numpy())
        network.classifier.requires_grad_(False)
        learner = ConsensusLearner(
            features=nn.Identity(),
            classifier=network,
            compute=compute,
            settings=training,
            views=views,
            seed=seed,
            sites_per_epoch=len(rows),
            # Whole batches only: of a few images, batch norms would have poor statistics.
            steps_per_epoch=max(len(rows) // training.batch_size, 1),
        )
        trainer = Trainer(learner, batches, threads=machine.threads, watch=watch)
        trainer.run(states, what, TrainingLog(outputs["log"], watch))
        tensors, _ = trainer.best(states)
        kept = {name: header[name] for name in ("classes", "channels", "proportions")}
        described = describe_run(settings, seed, compute.device, inputs)
        described |= {"what": what, "precision": compute.precision, "training": states.folder.name}
        save_weights(outputs["weights"], tensors, described | kept)
        states.remove(outputs.values())
