"""Tests between methods: against statsmodels, paired t-tests, and their promise under no difference."""

import numpy as np
import pandas as pd
import pytest
from coda.evaluation.bootstrap import accuracy_over_compounds, compound_weights
from coda.evaluation.scores import score_predictions
from coda.evaluation.significance import ALPHA, holm, paired_test
from coda.evaluation.units import Units, classes_of, units
from coda.files import read_table
from predictions import SKILL, make_predictions, write_world
from scipy.stats import kstest, t, ttest_1samp
from score_tables import pick
from statsmodels.stats.multitest import multipletests


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


def over_compounds(gains, replicates=1000):
    """Mean gains under the weights of the tests: one row a trial, one column a replicate."""
    weights = compound_weights([f"JCP_{n}" for n in range(gains.shape[1])], replicates, 0)
    return gains @ (weights / weights.sum(axis=1, keepdims=True)).T


@pytest.mark.parametrize("compounds", [5, 12, 90])
def test_p_and_interval_are_those_of_the_paired_t_test(compounds):
    gains = np.random.default_rng(5).normal([[0.0], [0.1], [0.3]], 0.4, (3, compounds))
    for mine, replicates in zip(gains, over_compounds(gains, 20_000), strict=True):
        expected = ttest_1samp(mine, 0)
        found = paired_test(mine.mean(), replicates, compounds)
        assert found.p == pytest.approx(expected.pvalue, rel=0.1, abs=0.002)
        ends = expected.confidence_interval(0.95)
        assert found[:2] == pytest.approx(tuple(ends), abs=0.02 * np.ptp(ends))


@pytest.mark.parametrize("compounds", [12, 24])
def test_without_a_difference_p_is_as_often_small_as_it_says(compounds):
    """In the tail too, where the correction after Holm looks."""
    gains = np.random.default_rng(0).normal(0, 1, (10_000, compounds))
    p = np.array(
        [
            paired_test(mine.mean(), replicates, compounds).p
            for mine, replicates in zip(gains, over_compounds(gains), strict=True)
        ]
    )
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.008)
    assert (p < 0.005).mean() == pytest.approx(0.005, abs=0.0025)
    assert kstest(p[:1000], "uniform").pvalue > 0.01


def test_p_below_alpha_and_an_interval_without_zero_are_the_same():
    gains = np.random.default_rng(2).normal(0.3, 1, (300, 12))
    for mine, replicates in zip(gains, over_compounds(gains), strict=True):
        low, high, p = paired_test(mine.mean(), replicates, 12)
        assert (p < ALPHA) == (low > 0 or high < 0)


def test_no_spread_gives_no_evidence():
    assert paired_test(0.0, np.zeros(10), 8) == (0, 0, 1)
    assert np.isnan(paired_test(0.2, np.full(10, 0.2), 8)).all()
    assert np.isnan(paired_test(0.2, np.array([0.1, np.nan, 0.3]), 8)).all()
    assert np.isnan(paired_test(0.2, np.array([0.1, 0.2, 0.3]), 1)).all()


COMPOUNDS, WELLS, PLATES = 134, 2, 8


def two_methods(random, gain=0.0):
    """Units of two methods on a layout that repeats on every plate; each compound suits one of the two better."""
    skill = random.normal(0.5, 0.15, (2, COMPOUNDS, 1))
    skill[1] += gain
    right = random.uniform(size=(2, COMPOUNDS, WELLS * PLATES)) < skill
    compounds = np.repeat([f"JCP_{number:03d}" for number in range(COMPOUNDS)], WELLS * PLATES)
    wells = pd.DataFrame(
        {
            "stratum": np.tile(np.repeat([f"P{n}" for n in range(PLATES)], WELLS), COMPOUNDS),
            "name": np.char.add(compounds, np.tile(["a", "b"], COMPOUNDS * PLATES)),
            "label": 0,
        }
    )
    everyone = np.arange(len(wells))
    return [
        Units(["a", "b"], 0 * everyone, np.stack([hit, ~hit], 1) * 1.0, everyone, wells, compounds)
        for hit in right.reshape(2, -1)
    ]


def p_of(methods, replicates=200):
    drawn = [accuracy_over_compounds(counted, replicates, 3) for counted in methods]
    hits = [counted.probabilities[:, 0].mean() for counted in methods]
    return paired_test(hits[1] - hits[0], drawn[1] - drawn[0], COMPOUNDS).p


def test_compounds_that_repeat_on_every_plate_do_not_make_false_findings():
    random = np.random.default_rng(8)
    found = np.array([p_of(two_methods(random)) for _ in range(200)])
    assert 0.01 < (found < 0.05).mean() < 0.1
    real = np.array([p_of(two_methods(random, gain=0.1)) for _ in range(20)])
    assert (real < 0.05).mean() > 0.9


def test_p_is_that_of_a_paired_t_test_over_compounds_and_not_over_wells():
    methods = two_methods(np.random.default_rng(1), gain=0.05)
    gains = methods[1].probabilities[:, 0] - methods[0].probabilities[:, 0]
    expected = ttest_1samp(gains.reshape(COMPOUNDS, -1).mean(axis=1), 0).pvalue
    assert p_of(methods, 4000) == pytest.approx(expected, rel=0.2)
    wells = ttest_1samp(gains, 0).pvalue
    assert wells < expected / 3


@pytest.mark.parametrize("level", ["image", "well", "compound"])
def test_accuracy_over_compounds_is_the_weighted_share_of_plain_pandas(level):
    table = make_predictions(seed=2, classes=3, compounds=4)
    classes = classes_of(table)
    logits = [f"Logit_{name}" for name in classes]
    rows = table[table["Metadata_moa"].notna()].astype(dict.fromkeys(logits, float))
    rows = rows[(rows["Metadata_JCP2022"] != "JCP_3") | (rows["Metadata_Site"] > 0)]  # unequal
    keys = ["Metadata_JCP2022", "Metadata_moa"]
    plain = rows
    if level != "image":
        plain = plain.groupby(["Metadata_Plate", "Metadata_Well", *keys])[logits].mean()
    if level == "compound":
        plain = plain.groupby(keys).mean()
    plain = plain.reset_index()
    right = plain[logits].idxmax(axis=1) == "Logit_" + plain["Metadata_moa"]
    found = accuracy_over_compounds(units(rows, classes, level), 5, seed=4)
    for replicate in range(5):
        weight = {
            name: np.ravel(compound_weights([name], 5, seed=4))[replicate]
            for name in plain["Metadata_JCP2022"].unique()
        }
        weights = plain["Metadata_JCP2022"].map(weight)
        assert found[replicate] == pytest.approx((weights * right).sum() / weights.sum())


def test_a_compound_weighs_the_same_whatever_stands_beside_it():
    names = ["JCP_1", "JCP_2", "JCP_3"]
    whole, part = compound_weights(names, 4000, 0), compound_weights(names[::2], 4000, 0)
    assert (whole[:, ::2] == part).all() and (whole > 0).all()
    assert whole.mean(axis=0) == pytest.approx(1, abs=0.06)
    assert whole.var(axis=0) == pytest.approx(1, abs=0.15)
    assert np.abs(np.corrcoef(whole.T) - np.eye(3)).max() < 0.05


def test_one_compound_gives_no_evidence():
    table = make_predictions(classes=2, compounds=1)
    counted = units(table[table["Metadata_JCP2022"] == "JCP_0"], classes_of(table), "image")
    drawn = accuracy_over_compounds(counted, 100, 0)
    assert np.ptp(drawn) < 1e-12 and np.isnan(paired_test(0.2, drawn, 1)).all()


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


def test_the_interval_over_compounds_is_that_of_a_paired_t_test(tmp_path):
    """All compounds have equally many images here; means over pairs and seeds have no more compounds than a run."""
    files, plates = write_world(tmp_path, seeds=(0, 1))
    found = score_predictions(files, plates, replicates=300)
    at = {"train_source": "source_1", "target_source": "source_2", "seed": 0}
    mine = plates.loc[plates["subset"] == "train", "Metadata_Plate"]
    right = {}
    for file in files:
        if all(file[name] == value for name, value in at.items()):
            rows = read_table(file["path"])
            rows = rows[rows["Metadata_Plate"].isin(mine) & rows["Metadata_moa"].notna()]
            logits = [name for name in rows if name.startswith("Logit_")]
            hit = rows[logits].idxmax(axis=1) == "Logit_" + rows["Metadata_moa"]
            right[file["method"]] = hit.groupby(rows["Metadata_JCP2022"]).mean()
    gains = right["coda"] - right["intensity"]
    wanted = {"method": "coda", "metric": "difference", "split": "adapted", "level": "image"}
    row = pick(found.metrics, **at, **wanted, baseline="intensity").iloc[0]
    ends = ttest_1samp(gains, 0).confidence_interval(0.95)
    close = 0.1 * np.ptp(ends)
    assert (row["low_compounds"], row["high_compounds"]) == pytest.approx(tuple(ends), abs=close)
    for table in (found.metrics, found.summary):
        for row in pick(table, **wanted, baseline="unadapted").itertuples():
            error = (row.high_compounds - row.low_compounds) / 2 / t.isf(0.025, len(gains) - 1)
            p = 2 * t.sf(abs(row.value) / error, len(gains) - 1)
            assert row.p == pytest.approx(p, rel=1e-6)
        others = table[~table["metric"].isin(["difference", "accuracy"])]
        assert others[["low_compounds", "high_compounds"]].isna().all(axis=None)
