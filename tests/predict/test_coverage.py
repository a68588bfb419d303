"""Temperatures and prediction sets against definitions, and coverage over many plates."""

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.predict.coverage import Calibration, calibrate, fit_temperature
from hypothesis import given
from hypothesis import strategies as st


def plate(random, compounds=40, classes=4, wells=2, sites=2, sharpness=1.0):
    """Predictions whose true probabilities are the softmax of the logits, times a sharpness."""
    rows, names = [], [f"moa {k}" for k in range(classes)]
    for compound in range(compounds):
        logits = random.normal(0, 1.5, classes)
        chances = np.exp(logits) / np.exp(logits).sum()
        moa = names[random.choice(classes, p=chances)]
        for well in range(wells):
            for site in range(sites):
                rows.append(
                    {
                        "Metadata_Source": "s", "Metadata_Plate": "p", "Metadata_Well": f"W{compound}-{well}",
                        "Metadata_Site": site, "Metadata_JCP2022": f"c{compound}", "Metadata_moa": moa,
                        **{f"Logit_{name}": value for name, value in zip(names, logits * sharpness, strict=True)},
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_temperature_undoes_sharpness():
    random = np.random.default_rng(0)
    for sharpness in (0.5, 1.0, 3.0):
        table = plate(random, compounds=1500, wells=1, sites=1, sharpness=sharpness)
        found = calibrate(table, "compound").temperature
        assert found == pytest.approx(sharpness, rel=0.12)


def test_the_temperature_is_the_most_likely_one():
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(60, 5)), random.integers(0, 5, 60)

    def loss(temperature):
        scaled = logits / temperature
        log_sum = np.log(np.exp(scaled).sum(axis=1))
        return (log_sum - scaled[np.arange(60), labels]).mean()

    grid = np.geomspace(0.05, 20, 4000)
    best = loss(grid[np.argmin([loss(each) for each in grid])])
    assert loss(fit_temperature(logits, labels)) == pytest.approx(best, abs=1e-6)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.floats(0.05, 0.99),
)
def test_the_threshold_is_that_of_the_definition(scores, coverage):
    found = Calibration(1.0, np.sort(scores)).threshold(coverage)
    rank = int(np.ceil((len(scores) + 1) * coverage))
    kept = [score for score in scores if 1 - score >= found - 1e-12]
    assert len(kept) >= min(rank, len(scores))
    if rank > len(scores):
        assert found == 0.0  # too few units: everything is in the set
    else:
        assert found == pytest.approx(1 - sorted(scores)[rank - 1])


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_sets_hold_the_right_mechanism_as_often_as_was_asked_for(coverage):
    """Over many pairs of plates; by theory the mean lies between the coverage and that + 1 / (n + 1)."""
    random, held = np.random.default_rng(2), []
    for _ in range(60):
        known, new = (plate(random, compounds=30, wells=1, sites=1, sharpness=2) for _ in range(2))
        found = calibrate(known, "compound")
        logits = new.filter(like="Logit_")
        inside = found.sets(found.probabilities(logits.to_numpy()), coverage)
        classes = [name.removeprefix("Logit_") for name in logits]
        held += list(
            inside[np.arange(len(new)), [classes.index(moa) for moa in new["Metadata_moa"]]]
        )
    error = np.sqrt(coverage * (1 - coverage) / len(held)) * 2.5  # plates share calibration: wider
    assert coverage - error <= np.mean(held) <= coverage + 1 / 31 + error


def test_all_units_of_a_compound_are_scored_by_temperatures_it_had_no_part_in():
    """A compound that is wrong in all wells must not soften its own scores."""
    random = np.random.default_rng(3)
    table = plate(random, compounds=6, wells=3)
    before = calibrate(table, "well").scores
    assert len(before) == 18 and (np.diff(before) >= 0).all()
    assert ((before >= 0) & (before <= 1)).all()


def test_a_plate_without_labels_is_refused():
    table = plate(np.random.default_rng(4)).assign(Metadata_moa=None)
    with pytest.raises(UserError, match="no labelled well"):
        calibrate(table, "well")
