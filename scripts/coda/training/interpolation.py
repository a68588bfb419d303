"""Weights between a foundation and its adaptation."""

import torch

from coda.errors import UserError
from coda.training.checkpoints import read_header, save_weights
from coda.training.networks import load_tensors


def interpolate_foundations(start: str, adapted: str, share: float, output: str) -> None:
    """Write a foundation that is `share` of the way from one to its adaptation.

    Weights that go on from the same start mostly lie in one valley of the loss, so those between them are a foundation
    too, and often serve both labs better than either end (Wortsman et al., "Robust fine-tuning of zero-shot
    models", CVPR 2022).

    Parameters
    ----------
    start, adapted
        Weights of the foundation of step 1, and of what was adapted from it.
    share
        From 0, the start to the bit, to 1, the adapted one.
    output
        Where the weights go, with the header of the adapted ones and the share.

    Raises
    ------
    UserError
        If a file is missing or broken, the two are of different shape, or the share is not in 0..1.
    """
    tensors = interpolated(load_tensors(start), load_tensors(adapted), share)
    header = read_header(adapted) | {"share": share, "interpolated_from": read_header(start)}
    save_weights(output, tensors, header)


def interpolated(
    start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Give the tensors ``start + share * (end - start)``; see `interpolate_foundations`."""
    if not 0 <= share <= 1:
        raise UserError(f"A share of weights is from 0 to 1, not {share}.")
    shapes = [{name: each.shape for name, each in tensors.items()} for tensors in (start, end)]
    if shapes[0] != shapes[1]:
        raise UserError(
            "The two foundations are not of the same shape; take one and what was adapted from it."
        )
    return {name: torch.lerp(tensor, end[name], share) for name, tensor in start.items()}
