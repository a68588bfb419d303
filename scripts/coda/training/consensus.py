"""What a frozen task model says of a compound, over all of its wells and plates."""

from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from coda.columns import PLATE_KEYS
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
    """Give each site what a task model finds in all sites of its compound, as `agreed` has it.

    It knows which wells hold the same compound, and no label.

    Parameters
    ----------
    store, rows
        The crops, and which of them belong together: sites of the target.
    foundation, task_model
        Frozen networks, on the device.
    wanted
        Statistics of the training source's negative controls, to which the tokens of each plate are brought by its own;
        sites of plates without any do not vote then. None leaves tokens as they are.
    what
        Name for progress lines.
    proportions : tensor, shape (classes,), optional
        As in `agreed`.
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
    treated = treated_sites(table, rows)
    alignment = Alignment(foundation.embed_dim).to(device)

    def moments_of(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return token_moments(foundation.forward_features(views))

    def vote(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = foundation.forward_features(views)
        logits = task_model(tokens if wanted is None else alignment(tokens))
        return (F.log_softmax(logits, dim=-1),)

    votes, voters = [], []
    for (_, plate), all_rows in table.groupby(PLATE_KEYS, sort=False).indices.items():
        asked = np.intersect1d(all_rows, treated)
        if not len(asked):
            continue
        if wanted is not None:
            controls = all_rows[reference_sites(table.iloc[all_rows], "dmso")]
            if not len(controls):
                print(f"{what}: {plate} has no negative control to align by; it has no vote.")
                continue
            moments = TokenMoments(*apply_to_sites(moments_of, store, controls, **inputs))
            alignment.fit(moments.statistics(), wanted)
        votes += apply_to_sites(vote, store, asked, **inputs)
        voters.append(asked)
    if not votes:
        raise UserError(
            "No plate of the target has a negative control of good quality to align tokens by; set "
            "consensus.aligned to false, or leave coda_consensus out of methods."
        )
    consensus = agreed(table, treated, np.concatenate(voters), torch.cat(votes), proportions)
    if inputs["compute"].rank == 0:
        tell_consensus(what, table, np.concatenate(voters))
    return consensus.to(device)


def treated_sites(table: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Give those of some rows of a store that hold a compound which is no negative control, sorted and each once."""
    rows = np.unique(rows)
    mine = table.iloc[rows]
    return rows[(mine["Metadata_pert_type"] != "negcon") & mine["Metadata_JCP2022"].notna()]


def agreed(
    table: pd.DataFrame,
    treated: np.ndarray,
    voters: np.ndarray,
    votes: torch.Tensor,
    proportions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Give each treated site the mean log probability of its compound's votes, as probabilities.

    Parameters
    ----------
    table
        The store's table.
    treated, voters
        Rows of treated sites, and of those that voted, which are among them.
    votes : tensor, shape (voters, classes)
        Their log probabilities.
    proportions : tensor, shape (classes,), optional
        Share of each class among the compounds, to which the consensus is `balanced`.

    Returns
    -------
    float32 tensor, shape (rows of the table, classes)
        Zeros at sites that are not treated, or whose compound has no vote.
    """
    compounds = table["Metadata_JCP2022"].to_numpy()
    means = pd.DataFrame(votes.double().cpu().numpy()).groupby(compounds[voters]).mean()
    logits = torch.from_numpy(means.to_numpy(copy=True))
    if proportions is not None:
        logits = balanced(logits, proportions.double())
    targets = torch.zeros(len(table), votes.shape[1])
    place = means.index.get_indexer(compounds[treated])
    heard = torch.from_numpy(place >= 0)
    targets[torch.from_numpy(treated)[heard]] = F.softmax(logits, dim=-1).float()[place[place >= 0]]
    return targets


def tell_consensus(what: str, table: pd.DataFrame, voters: np.ndarray) -> None:
    """Print how many compounds and sites a consensus is of."""
    compounds = table["Metadata_JCP2022"].iloc[voters].nunique()
    print(f"{what}: consensus of {compounds:,} compounds from {len(voters):,} sites", flush=True)


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
