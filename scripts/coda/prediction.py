"""Step 4 of the protocol: predictions and embeddings of every site of a source, once and in order."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from coda.checkpoints import read_header
from coda.classifiers import build_task_model, load_foundation
from coda.compute import explain_memory
from coda.errors import UserError
from coda.inference import apply_to_sites
from coda.machine import Machine
from coda.models import Supervised, build_foundation, load_tensors, load_weights
from coda.settings import ModelSettings
from coda.store import CropStore


def predict_sites(
    crops: list[str],
    classifier: str,
    settings: dict[str, Any],
    machine: Machine,
    what: str,
    foundation: str | None = None,
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

    Returns
    -------
    DataFrame
        One row a site: ``Metadata_*``, ``Logit_<class>`` and ``Embedding`` (the CLS token).

    Raises
    ------
    UserError
        If the channels of the crops differ from those the classifier was trained on.
    """
    compute = machine.claim().compute()
    store = CropStore(crops)
    header = read_header(classifier)
    if header["channels"] != store.channels:
        raise UserError(
            f"{classifier} was trained on the channels {header['channels']}, but the crops have {store.channels}; "
            "set channels in the config and make both again."
        )
    classes, size = header["classes"], settings["image_size"]
    model = ModelSettings(settings["model"]["architecture"], settings["model"]["options"], "random")
    shape = (len(store.channels), size)
    if foundation is None:
        network = Supervised(build_foundation(model, *shape, depth=settings["depth"]), len(classes))
        backbone, task = network.foundation, None
    else:
        backbone = load_foundation(foundation, model, *shape)
        network = task = build_task_model(model, settings["depth"], len(classes), *shape)
    load_weights(network, load_tensors(classifier), classifier)
    network, backbone = network.eval().to(compute.device), backbone.eval().to(compute.device)

    def infer(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = backbone.forward_features(views)
        logits = network.classifier(tokens[:, 0]) if task is None else task(tokens)
        return logits, tokens[:, 0]

    sites, run = np.arange(len(store)), compute.compiled(infer)
    with explain_memory(compute.device, "end other programs that use it, or predict elsewhere"):
        logits, embedding = apply_to_sites(
            run, store, sites, size, compute, threads=machine.threads, what=what
        )
    columns = {f"Logit_{name}": logits[:, number].numpy() for number, name in enumerate(classes)}
    columns["Embedding"] = list(embedding.numpy())
    metadata = store.table.filter(regex="^Metadata_")
    return pd.concat([metadata, pd.DataFrame(columns)], axis=1)
