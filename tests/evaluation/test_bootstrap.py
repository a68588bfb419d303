"""Resampling: against a plain loop over scikit-learn, against theory, and its promise of pairing."""

import numpy as np
import pandas as pd
import pytest
from coda.evaluation.bootstrap import (
    bootstrap,
    draws,
    interval,
    metric_interval,
    resampling_weights,
    seed_weights,
)
from coda.evaluation.metrics import METRICS, calibration_error, metric_replicates, pair_wins
from coda.evaluation.units import Units, classes_of, units
from predictions import make_predictions
from sklearn import metrics as sk


@pytest.mark.parametrize("level", ["image", "well", "compound"])
def test_replicates_equal_scikit_learn_on_repeated_wells(level):
    table = make_predictions(classes=4, compounds=5, skill=0.8)
    counted = units(table, classes_of(table), level)
    weights = resampling_weights(counted.resampled, 25, seed=3)
    found = metric_replicates(counted, weights.astype(np.float64), pair_wins(counted))
    for row in range(25):
        take = np.repeat(np.arange(len(counted)), weights[row].astype(int)[counted.groups])
        truth, chances = counted.labels[take], counted.probabilities[take]
        guess = chances.argmax(axis=1)
        there = np.unique(truth)
        macro = {"average": "macro", "labels": there, "zero_division": 0}
        assert found["accuracy"][row] == pytest.approx(sk.accuracy_score(truth, guess), abs=1e-12)
        assert found["macro_f1"][row] == pytest.approx(
            sk.f1_score(truth, guess, **macro), abs=1e-12
        )
        assert found["macro_precision"][row] == pytest.approx(
            sk.precision_score(truth, guess, **macro), abs=1e-12
        )
        assert found["kappa"][row] == pytest.approx(sk.cohen_kappa_score(truth, guess), abs=1e-12)
        areas = []
        for one in there:
            for other in there[there != one]:
                both = np.isin(truth, [one, other])
                areas.append(sk.roc_auc_score(truth[both] == one, chances[both, one]))
        assert found["macro_auc"][row] == pytest.approx(np.mean(areas), abs=1e-12)


def test_single_precision_is_enough():
    table = make_predictions(classes=5, compounds=4)
    counted = units(table, classes_of(table), "image")
    weights, wins = resampling_weights(counted.resampled, 50, seed=0), pair_wins(counted)
    single = metric_replicates(counted, weights, wins)
    double = metric_replicates(counted, weights.astype(np.float64), wins)
    for metric in METRICS:
        assert single[metric] == pytest.approx(double[metric], abs=2e-6)


def test_weights_keep_every_plate_and_follow_names_alone():
    wells = pd.DataFrame({"stratum": ["a"] * 6 + ["b"] * 3, "name": list("uvwxyz") + list("uvw")})
    weights = resampling_weights(wells, 40, seed=1)
    assert (weights[:, :6].sum(axis=1) == 6).all()
    assert (weights[:, 6:].sum(axis=1) == 3).all()
    shuffled = wells.sample(frac=1, random_state=0)
    assert (resampling_weights(shuffled, 40, seed=1) == weights[:, shuffled.index]).all()
    assert (resampling_weights(wells[:6], 40, seed=1) == weights[:, :6]).all()
    assert (resampling_weights(wells, 40, seed=2) != weights).any()


def test_draws_are_multinomial():
    counts = draws("plate", 20, 20_000, seed=0)
    assert (counts.sum(axis=1) == 20).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.05)
    assert counts.var() == pytest.approx(1 - 1 / 20, abs=0.02)


def test_interval_of_accuracy_has_the_spread_of_clusters():
    """Sites of a well agree, so the standard error is that of wells, not of images."""
    table = make_predictions(seed=5, classes=4, compounds=40, plates=("P1",), sites=4, skill=1.0)
    logits = [name for name in table if name.startswith("Logit_")]
    table[logits] = table.groupby("Metadata_Well")[logits].transform("first")
    counted = units(table, classes_of(table), "image")
    accuracy = bootstrap(counted, pair_wins(counted), 4000, seed=0)["accuracy"]
    share = (counted.probabilities.argmax(axis=1) == counted.labels).mean()
    assert accuracy.std() == pytest.approx(np.sqrt(share * (1 - share) / 160), rel=0.06)


def test_intervals_cover_the_truth():
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        right = random.random(80) < 0.4
        weights = draws(f"plate {trial}", 80, 400, seed=0)
        low, high = interval(weights @ right / 80)
        hits += low <= 0.4 <= high
    assert 0.91 <= hits / 400 <= 0.985


def test_undefined_replicates_widen_and_then_forbid_an_interval():
    values = np.linspace(0, 1, 1001)
    low, high = interval(values)
    assert (low, high) == pytest.approx((0.025, 0.975))
    values[500:510] = np.nan
    wider = interval(values)
    assert wider[0] < low and wider[1] > high
    values[400:500] = np.nan
    assert np.isnan(interval(values)).all()


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_are_resampled_with_all_the_variance_of_their_mean(seeds):
    weights = seed_weights("seeds", seeds, 20_000, 0)
    assert weights.sum(axis=1) == pytest.approx(1)
    values = np.random.default_rng(seeds).normal(0, 1, seeds)
    assert (weights @ values).std() == pytest.approx(values.std() / np.sqrt(seeds - 1), rel=0.03)


def test_one_seed_has_no_spread():
    assert (seed_weights("seeds", 1, 10, 0) == 1).all()


# A spread known from few seeds is uncertain itself, so they do not reach 95 %; plain draws of them stay below.
@pytest.mark.parametrize(("seeds", "least"), [(2, 0.81), (3, 0.84), (5, 0.9)])
def test_intervals_over_wells_and_few_seeds_cover_what_can_be_had(seeds, least):
    """Seeds add four times the variance of wells; values are normal around zero, 80 wells shared by all seeds."""
    random, hits, wells = np.random.default_rng(0), 0, 80
    for trial in range(1000):
        plate = random.normal(0, 1, wells)
        runs = random.normal(0, np.sqrt(4 * seeds / wells), (seeds, 1)) + plate
        drawn = runs @ draws(f"plate {trial}", wells, 400, 0).T / wells
        low, high = interval((drawn.T * seed_weights(f"seeds {trial}", seeds, 400, 0)).sum(axis=1))
        hits += low <= 0 <= high
    assert least < hits / 1000 < 0.98


def test_intervals_stay_within_what_a_metric_can_be():
    values = np.linspace(-2, 2, 101)
    assert metric_interval("accuracy", 0.5, values) == (0, 1)
    assert (
        metric_interval("kappa", 0, values) == metric_interval("difference", 0, values) == (-1, 1)
    )
    assert metric_interval("gap_closed", 0, values) == interval(values)
    assert np.isnan(metric_interval("accuracy", 0.5, np.full(5, np.nan))).all()
    assert np.isnan(metric_interval("calibration_error", 0.1, np.full(5, np.nan))).all()


@pytest.mark.parametrize(("excess", "truth"), [(0.0, 0.0), (0.1, 0.065)])
def test_intervals_of_the_calibration_error_hold_value_and_truth(excess, truth):
    """200 predictions of two classes, whose confidence is 0.5 to 0.8 and `excess` of it too high."""
    random, wells, held = np.random.default_rng(1), 200, []
    keys = pd.DataFrame({"stratum": "P", "name": [f"{n:03d}" for n in range(wells)], "label": 0})
    everyone = np.arange(wells)
    for trial in range(100):
        sure = random.uniform(0.5, 0.8, wells)
        right = random.random(wells) < sure * (1 - excess)
        chances = np.where(right, sure, 1 - sure)
        chances = np.stack([chances, 1 - chances], axis=1)
        counted = Units(["a", "b"], 0 * everyone, chances, everyone, keys, keys["name"].to_numpy())
        value = calibration_error(counted, np.ones((1, wells)))[0]
        drawn = calibration_error(counted, resampling_weights(keys, 200, trial))
        low, high = metric_interval("calibration_error", value, drawn)
        assert 0 <= low <= value <= high
        held.append((low <= truth <= high, interval(drawn)[0] <= truth <= interval(drawn)[1]))
    found, plain = np.mean(held, axis=0)
    assert found > plain + 0.1
    assert found > (0.9 if truth else 0.5)
