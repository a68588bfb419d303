"""What a frozen task model says of a compound, over all of its wells and plates."""

from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.alignment import (
    Alignment,
    TokenMoments,
    TokenStatistics,
    reference_sites,
    token_moments,
)
from coda.training.inference import apply_to_sites


def compound_consensus(
    store: CropStore,
    rows: np.ndarray,
    foundation: nn.Module,
    task_model: nn.Module,
    wanted: TokenStatistics | None,
    what: str,
    proportions: torch.Tensor | None = None,
    **inputs: Any,
) -> torch.Tensor:
    """Give each site the mean log probability of its compound's sites, as probabilities.

    It knows which wells hold the same compound, and no label.

    Parameters
    ----------
    store, rows
        The crops, and which of them belong together: sites of the target. Negative controls among them, and
        sites without a compound, have no consensus.
    foundation, task_model
        Frozen networks, on the device.
    wanted
        Statistics of the training source's negative controls, to which the tokens of each plate are brought by its own;
        sites of plates without any do not vote then. None leaves tokens as they are.
    what
        Name for progress lines.
    proportions : tensor, shape (classes,), optional
        Share of each class among the compounds, to which the consensus is `balanced`.
    inputs
        ``size``, ``compute`` and ``threads``, as in `coda.training.inference.apply_to_sites`.

    Returns
    -------
    float32 tensor, shape (rows of the store, classes)
        On the device. Zeros where there is no consensus.

    Raises
    ------
    UserError
        If no plate has controls to align by.
    """
    table, device = store.table, inputs["compute"].device
    members = table.iloc[np.unique(rows)].assign(row=np.unique(rows))
    treated = members["Metadata_pert_type"] != "negcon"
    members = members[treated & members["Metadata_JCP2022"].notna()]
    alignment = Alignment(foundation.embed_dim).to(device)

    def moments_of(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return token_moments(foundation.forward_features(views))

    def vote(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = foundation.forward_features(views)
        logits = task_model(tokens if wanted is None else alignment(tokens))
        return (F.log_softmax(logits, dim=-1),)

    votes, voters = [], []
    plates = table.groupby(["Metadata_Source", "Metadata_Plate"], sort=False).indices
    for (source, plate), all_rows in plates.items():
        on_plate = (members["Metadata_Source"] == source) & (members["Metadata_Plate"] == plate)
        if not on_plate.any():
            continue
        if wanted is not None:
            controls = all_rows[reference_sites(table.iloc[all_rows], "dmso")]
            if not len(controls):
                print(f"{what}: {plate} has no negative control to align by; it has no vote.")
                continue
            moments = TokenMoments(*apply_to_sites(moments_of, store, controls, **inputs))
            alignment.fit(moments.statistics(), wanted)
        asked = members[on_plate]
        votes += apply_to_sites(vote, store, asked["row"].to_numpy(), **inputs)
        voters.append(asked["Metadata_JCP2022"])
    if not votes:
        raise UserError(
            "No plate of the target has a negative control of good quality to align tokens by; set "
            "consensus.aligned to false, or leave coda_consensus out of methods."
        )
    heard = pd.DataFrame(torch.cat(votes).double().numpy())
    means = heard.groupby(pd.concat(voters).to_numpy()).mean()
    members = members[members["Metadata_JCP2022"].isin(means.index)]
    logits = torch.from_numpy(means.to_numpy(copy=True))
    if proportions is not None:
        logits = balanced(logits, proportions.double())
    consensus = F.softmax(logits, dim=-1).float()
    if inputs["compute"].rank == 0:
        print(
            f"{what}: consensus of {len(means):,} compounds from {len(heard):,} sites", flush=True
        )
    targets = torch.zeros(len(table), consensus.shape[1])
    of_member = means.index.get_indexer(members["Metadata_JCP2022"])
    targets[members["row"].to_numpy(copy=True)] = consensus[of_member]
    return targets.to(device)


ROUNDS = 100  # of Sinkhorn's iteration; a handful suffices where probabilities are soft


def balanced(logits: torch.Tensor, proportions: torch.Tensor) -> torch.Tensor:
    """Move logits by one constant a class, so that the mean probability of each class is its proportion.

    A task model on another lab's images calls some classes far too often, for all compounds alike. Where the classes'
    shares are known that is undone: among all assignments of compounds to classes with those shares, the
    result is the one nearest to the model's own (Sinkhorn's iteration; Asano et al., "Self-labelling via simultaneous
    clustering and representation learning", ICLR 2020, do so with clusters of equal size).

    Parameters
    ----------
    logits : float64 tensor, shape (compounds, classes)
        Log probabilities.
    proportions : float64 tensor, shape (classes,)
        Wanted mean probabilities, which sum to 1.

    Returns
    -------
    float64 tensor, shape (compounds, classes)
        Log probabilities, normalised for each compound.
    """
    wanted = (proportions * len(logits)).log()
    for _ in range(ROUNDS):
        logits = logits - torch.logsumexp(logits, dim=0) + wanted
        logits = F.log_softmax(logits, dim=-1)
    return logits
