import numpy as np
import pytest
import torch
from coda.training.knn import knn_accuracy, knn_logits
from sklearn.neighbors import KNeighborsClassifier


def test_votes_equal_a_loop_in_float64():
    random = np.random.default_rng(0)
    bank, queries = random.normal(size=(60, 8)), random.normal(size=(9, 8))
    labels = random.integers(0, 4, 60)
    votes = knn_logits(
        torch.tensor(bank), torch.tensor(labels), torch.tensor(queries), 4, k=7, temperature=0.1
    )
    for number, query in enumerate(queries):
        cosine = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
        expected = np.zeros(4)
        for neighbour in np.argsort(-cosine)[:7]:
            expected[labels[neighbour]] += np.exp(cosine[neighbour] / 0.1)
        assert np.allclose(votes[number].numpy(), expected, rtol=1e-4)


def test_equals_scikit_learn_with_one_neighbour():
    random = np.random.default_rng(1)
    bank, queries = random.normal(size=(80, 6)), random.normal(size=(40, 6))
    labels, truth = random.integers(0, 3, 80), random.integers(0, 3, 40)
    theirs = KNeighborsClassifier(1, metric="cosine").fit(bank, labels).score(queries, truth)
    ours = knn_accuracy(*map(torch.tensor, (bank, labels, queries, truth)), k=1)
    assert ours == pytest.approx(theirs)


def test_k_larger_than_the_bank_uses_all_of_it():
    bank = torch.eye(3)
    votes = knn_logits(bank, torch.tensor([0, 1, 2]), bank, 3, k=50)
    assert (votes.argmax(dim=1) == torch.arange(3)).all()
    assert (votes > 0).all()
