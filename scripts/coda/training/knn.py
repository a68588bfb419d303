"""Weighted nearest neighbours on features: a classifier without training."""

import torch
import torch.nn.functional as F


def knn_logits(
    bank: torch.Tensor,
    labels: torch.Tensor,
    queries: torch.Tensor,
    classes: int,
    k: int = 50,
    temperature: float = 0.1,
) -> torch.Tensor:
    """Vote with the `k` most similar features of the bank, each with weight exp(cosine / temperature).

    Parameters
    ----------
    bank : float tensor, shape (M, width)
        Features with known classes.
    labels : int tensor, shape (M,)
        Their classes.
    queries : float tensor, shape (N, width)
    classes
        Number of classes.
    k
        Neighbours that vote; all of the bank if it is smaller.
    temperature
        Divisor of the cosine.

    Returns
    -------
    float tensor, shape (N, classes)
        Sum of the votes for each class.
    """
    similarity, neighbours = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(
        min(k, len(bank)), dim=1
    )
    votes = torch.zeros(len(queries), classes, dtype=similarity.dtype, device=queries.device)
    return votes.scatter_add_(1, labels[neighbours], (similarity / temperature).exp())


def knn_accuracy(
    bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, truth: torch.Tensor, **options
) -> float:
    """Share of `queries` (N, width) whose class `truth` (N,) gets the most votes."""
    classes = int(torch.cat([labels, truth]).max()) + 1
    return float(
        (knn_logits(bank, labels, queries, classes, **options).argmax(dim=1) == truth)
        .float()
        .mean()
    )
