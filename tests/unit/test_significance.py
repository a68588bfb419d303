"""Tests between methods: against statsmodels, a paired t-test over wells, and their promise under no difference."""

import numpy as np
import pandas as pd
import pytest
from coda.comparison import score_predictions
from coda.significance import holm, paired_p
from scipy.stats import kstest, ttest_1samp
from statsmodels.stats.multitest import multipletests
from test_comparison import SKILL, pick, write_world


@pytest.mark.parametrize("tests", [1, 2, 7, 30])
def test_holm_is_that_of_statsmodels(tests):
    """With ties, ones, and tests that could not be made."""
    random = np.random.default_rng(tests)
    p = np.round(random.uniform(0, 1, tests) ** 4, 2)
    expected = multipletests(p, method="holm")[1]
    places = np.sort(random.permutation(2 * tests)[:tests])
    spread = np.full(2 * tests, np.nan)
    spread[places] = p
    found = holm(spread)
    assert found[places] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found).sum() == tests


def test_p_is_near_that_of_a_paired_t_test_over_wells():
    """One plate of 90 wells, where resampling wells and the t-test mean the same."""
    random = np.random.default_rng(5)
    for shift in (0.0, 0.05, 0.1, 0.2):
        gains = random.normal(shift, 0.4, 90)
        replicates = gains[random.integers(90, size=(4000, 90))].mean(axis=1)
        assert paired_p(gains.mean(), replicates) == pytest.approx(
            ttest_1samp(gains, 0).pvalue, rel=0.25, abs=0.01
        )


def test_without_a_difference_p_is_uniform():
    random, found = np.random.default_rng(0), []
    for _ in range(300):
        gains = random.normal(0, 1, 120)
        found.append(
            paired_p(gains.mean(), gains[random.integers(120, size=(300, 120))].mean(axis=1))
        )
    assert kstest(found, "uniform").pvalue > 0.01


def test_no_spread_gives_no_evidence():
    assert paired_p(0.0, np.zeros(10)) == 1
    assert np.isnan(paired_p(0.2, np.full(10, 0.2)))
    assert np.isnan(paired_p(0.2, np.array([0.1, np.nan, 0.3])))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    skill = SKILL | {"unadapted": 0.5, "intensity": 0.5, "coda": 3.0}
    files, plates = write_world(tmp_path_factory.mktemp("world"), seeds=(0, 1), skill=skill)
    return score_predictions(files, plates, replicates=300)


def test_only_planned_differences_are_tested(found):
    for table in (found.metrics, found.summary):
        tested = table[table["p"].notna()]
        assert (tested["metric"] == "difference").all()
        against = tested.groupby("baseline")["method"].unique().map(set).to_dict()
        assert against == {"unadapted": {"oda", "coda", "intensity"}, "oda": {"coda"}}
        assert (tested["p_holm"] >= tested["p"]).all()


def test_a_family_is_all_methods_and_pairs_of_a_split_and_level(found):
    families = found.summary.assign(mean=found.summary["train_source"] == "all")
    families = families[families["p"].notna()].groupby(["split", "level", "mean"])
    assert len(families) == 2 * 3 * 2
    for (_, _, mean), family in families:
        assert len(family) == (4 if mean else 8)
        expected = multipletests(family["p"], method="holm")[1]
        assert family["p_holm"].to_numpy() == pytest.approx(expected)


def test_a_large_gain_survives_and_none_does_not(found):
    at = {"train_source": "all", "split": "adapted", "level": "image", "metric": "difference"}
    by = {
        method: pick(found.summary, **at, method=method, baseline="unadapted")["p_holm"].item()
        for method in ("coda", "intensity")
    }
    assert by["coda"] < 1e-6
    assert by["intensity"] > 0.05


def test_intervals_and_tests_agree_away_from_the_edge(found):
    rows = found.summary[found.summary["p"].notna()]
    clear = pd.Series(np.where(rows["low"] > 0, True, rows["high"] < 0), rows.index)
    assert not (clear & (rows["p"] > 0.1)).any()
    assert not (~clear & (rows["p"] < 0.02)).any()
