"""Who trains with whom in the variants of CODA, checked by hand on a few sites."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.training.adaptation_data import data_settings, mix_sites, mixed_order
from small_training import batches, make_training

DATA = {"wells": "labelled", "partners": ["batch", "plate", "well", "site"]}
COLUMNS = ["Source", "Batch", "Plate", "Well", "Site", "JCP2022", "moa", "pert_type"]


def table(*sites) -> pd.DataFrame:
    """Sites as (source, batch, plate, well, compound), each a labelled one."""
    rows = [(s, b, p, w, 1, c, "moa", "trt") for s, b, p, w, c in sites]
    return pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in COLUMNS])


TARGET = [
    ("s2", "b1", "p1", "A01", "c1"),
    ("s2", "b1", "p2", "A01", "c1"),
    ("s2", "b2", "p3", "A01", "c1"),
    ("s2", "b1", "p1", "A02", "c2"),
    ("s2", "b1", "p2", "A02", "c2"),
    ("s2", "b1", "p1", "A03", "c3"),
]
HOME = [("s1", "b1", "p1", "A01", "c1"), ("s1", "b1", "p1", "A02", "c2")]


def partners_of(mixture, site: int) -> set[int]:
    """Rows that a site's partner is drawn from, by drawing many."""
    position = np.flatnonzero(mixture.rows == site)[:1].repeat(200)
    drawn = mixture.partners.draw(position, np.random.default_rng(0))
    return set(mixture.rows[drawn].tolist())


def test_other_batches_only_leaves_out_those_without_and_keeps_the_budget():
    mixture = mix_sites(table(*TARGET), 6, data_settings("coda_batch", DATA), seed=1)
    assert set(mixture.rows.tolist()) == {0, 1, 2}  # c2 and c3 are in one batch only
    assert mixture.budget == len(mixture.rows) == 6 and mixture.left_out == 3
    assert np.bincount(mixture.rows).tolist() == [2, 2, 2]
    assert partners_of(mixture, 0) == {2} and partners_of(mixture, 2) == {0, 1}
    assert "3 sites without one are left out" in mixture.describe()
    with pytest.raises(UserError, match="another batch"):
        mix_sites(table(*TARGET[3:]), 3, data_settings("coda_batch", DATA), seed=1)


def test_across_labs_the_partner_is_in_the_other_lab_where_there_is_one():
    mixture = mix_sites(table(*TARGET, *HOME), 6, data_settings("coda_labs", DATA), seed=1)
    assert mixture.budget == 6 and len(mixture.rows) == 8
    assert partners_of(mixture, 0) == {6} and partners_of(mixture, 6) == {0, 1, 2}
    assert partners_of(mixture, 3) == {7}
    assert partners_of(mixture, 5) == {5}  # c3 is nowhere else
    order = mixed_order(mixture.groups, 3, 0)
    assert sorted(order.tolist()) == list(range(8))


def test_replay_fills_half_of_each_batch_and_partners_stay_in_their_lab():
    mixture = mix_sites(table(*TARGET, *HOME), 6, data_settings("coda_replay", DATA), seed=1)
    assert partners_of(mixture, 0) == {2} and partners_of(mixture, 6) == {6}
    for epoch in range(3):
        order = mixed_order(mixture.groups, 3, epoch)
        own = mixture.rows[order] < 6
        for batch in own[: mixture.budget].reshape(-1, 2):
            assert batch.sum() == 1
        assert sorted(order[own].tolist()) == list(range(6))


def test_coda_and_oda_are_what_they_were():
    plain = mix_sites(table(*TARGET), 6, data_settings("coda", DATA), seed=1)
    assert plain.rows.tolist() == list(range(6)) and plain.left_out == 0
    assert partners_of(plain, 3) == {4}
    alone = mix_sites(table(*TARGET), 6, data_settings("oda", DATA), seed=1)
    assert partners_of(alone, 0) == {0}
    expected = np.random.default_rng([3, 2]).permutation(6)
    assert mixed_order(plain.groups, 3, 2).tolist() == expected.tolist()


def test_a_training_draws_its_batches_half_and_half(tiny_plates):
    training = make_training(tiny_plates)
    rows = training.batches.sites
    first = np.flatnonzero(CropStore(tiny_plates).table.iloc[rows]["Metadata_Batch"] == "b1")
    rest = np.setdiff1d(np.arange(len(rows)), first)
    training.batches = replace(training.batches, groups=[first, rest])
    own = set(rows[first].tolist())
    for (sites, _), _ in zip(training.batches.plan(training.learner), range(9), strict=False):
        assert sum(site in own for site in sites[0].tolist()) == len(sites[0]) // 2
    assert next(batches(training))[0].shape[1] == 8
