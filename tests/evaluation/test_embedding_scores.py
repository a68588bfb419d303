"""Scores of the features against second, plain calculations in float64, and cases with a known answer."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import copairs.map
import numpy as np
import pandas as pd
import pytest
from coda.evaluation.embedding_scores import (
    COMPOUND,
    METRICS,
    MOA,
    read_representation,
    score_embeddings,
    score_representation,
)
from coda.evaluation.retrieval import average_precision
from coda.evaluation.well_profiles import export_profiles, features_of, well_profiles
from coda.files import write_table
from copairs.map.normalization import expected_ap
from places import SCRIPTS
from plates import validation_plates
from predictions import make_predictions, with_embeddings
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score, silhouette_samples
from sklearn.neighbors import NearestNeighbors


def wells(source, plates, seed=0, signal=4.0, shift=0.0):
    table = with_embeddings(make_predictions(seed, plates=plates), signal=signal, seed=seed)
    table["Metadata_Source"], table["Metadata_Batch"] = source, table["Metadata_Plate"].str[0]
    table["Embedding"] = table["Embedding"] + shift
    return well_profiles(table)


@pytest.fixture(scope="module")
def pair():
    return wells("source_1", ["H1"], 1, 1.0), wells("source_2", ["P1", "P2", "Q1"], 2, 1.0, 1.0)


@pytest.fixture(scope="module")
def scores(pair):
    return score_representation(*pair, replicates=200).set_index("metric")


def standardised(table):
    values = table[features_of(table)].to_numpy(np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_retrieval_of_replicates(pair, scores):
    target = pair[1]
    values = unit(standardised(target))
    precision = {}
    for row, well in target[target[MOA].notna()].iterrows():
        hits = (target[COMPOUND] == well[COMPOUND]) & (
            target["Metadata_Plate"] != well["Metadata_Plate"]
        )
        misses = (target["Metadata_pert_type"] == "negcon") & (
            target["Metadata_Plate"] == well["Metadata_Plate"]
        )
        asked = (hits | misses).to_numpy()
        found = average_precision_score(hits[asked], (values @ values[row])[asked])
        precision.setdefault(well[COMPOUND], []).append(found)
    expected = np.mean([np.mean(found) for found in precision.values()])
    assert scores.loc["map_replicates", "value"] == pytest.approx(expected, abs=1e-6)
    assert scores.loc["map_replicates", "n"] == 12


def test_retrieval_of_mechanisms(pair, scores):
    target = pair[1].copy()
    target[features_of(target)] = standardised(target)
    means = target[target[MOA].notna()].groupby([COMPOUND, MOA])[features_of(target)].mean()
    moa = means.index.get_level_values(MOA).to_numpy()
    values, found = unit(means.to_numpy()), {}
    for row in range(len(means)):
        others = np.arange(len(means)) != row
        found.setdefault(moa[row], []).append(
            average_precision_score((moa == moa[row])[others], (values @ values[row])[others])
        )
    expected = np.mean([np.mean(precision) for precision in found.values()])
    assert scores.loc["map_moa", "value"] == pytest.approx(expected, abs=1e-6)
    assert scores.loc["map_moa", "n"] == 4


@pytest.fixture(scope="module")
def together(pair):
    both = pd.concat(pair, ignore_index=True)
    both = both[both[MOA].notna()].reset_index(drop=True)
    batch = both["Metadata_Source"] + both["Metadata_Batch"]
    return standardised(both), both[MOA], batch, both["Metadata_Source"], both[COMPOUND]


def test_silhouettes_written_out(together, scores):
    values, moa, batch, source, _ = together
    distance = np.linalg.norm(values[:, None] - values[None], axis=2)
    for metric, label in (("moa", moa), ("batch", batch), ("source", source)):
        label = label.to_numpy()
        widths = []
        for row in range(len(values)):
            mean = {
                kind: distance[row, (label == kind) & (np.arange(len(values)) != row)].mean()
                for kind in set(label)
            }
            own, other = (
                mean[label[row]],
                min(mean[kind] for kind in mean if kind != label[row]),
            )
            widths.append((other - own) / max(own, other))
        assert scores.loc[f"silhouette_{metric}", "value"] == pytest.approx(np.mean(widths))


def test_purity_by_another_search(together, scores):
    values, moa, batch, source, compound = together
    for metric, label in (("moa", moa), ("batch", batch), ("source", source)):
        label, shares, chances = label.to_numpy(), [], []
        for row in range(len(values)):
            free = np.arange(len(values)) != row
            if metric == "moa":
                free &= (compound != compound[row]).to_numpy()
            search = NearestNeighbors(n_neighbors=15).fit(values[free])
            nearest = search.kneighbors(values[[row]], return_distance=False)[0]
            shares.append((label[free][nearest] == label[row]).mean())
            chances.append((label[free] == label[row]).mean())
        assert scores.loc[f"purity_{metric}", "value"] == pytest.approx(np.mean(shares))
        assert scores.loc[f"purity_{metric}", "chance"] == pytest.approx(np.mean(chances))


def test_known_answers():
    """Sources far apart and mechanisms on one point each, then neither sources nor mechanisms."""
    apart = score_representation(
        wells("source_1", ["H1", "H2"], 1, 50.0), wells("source_2", ["P1", "P2"], 2, 50.0, 900.0)
    ).set_index("metric")["value"]
    assert apart["map_replicates"] == apart["map_moa"] == apart["purity_source"] == 1
    assert apart["silhouette_source"] > 0.5
    mixed = score_representation(
        wells("source_1", ["H1"], 1, 0.0), wells("source_2", ["P1", "P2"], 2, 0.0)
    ).set_index("metric")
    assert abs(mixed.loc["silhouette_source", "value"]) < 0.05
    for metric in ("map_moa", "purity_moa", "purity_source"):
        row = mixed.loc[metric]
        assert row["value"] == pytest.approx(row["chance"], abs=0.12)


def test_intervals_hold_their_values(scores):
    assert list(scores.index) == list(METRICS)
    assert (scores["low"] <= scores["value"]).all() and (scores["value"] <= scores["high"]).all()
    assert scores["reason"].isna().all()


def test_the_quick_ways_give_what_the_plain_ones_give_to_the_last_bit():
    """Many wells alike, as under the control of positions: ties are where another order of sums would show."""
    home = wells("source_1", ["H1", "H2"], 1)
    target = wells("source_2", ["P1", "P2", "Q1"], 2)
    for table in (home, target):
        table.loc[::3, features_of(table)] = table.loc[0, features_of(table)].to_numpy()
        table[features_of(table)] = table[features_of(table)].round(1)
    scores = score_representation(home, target, replicates=50).set_index("metric")["value"]
    both = pd.concat([home, target], ignore_index=True)
    both = both[both[MOA].notna()].reset_index(drop=True)
    features = both[features_of(both)].astype(np.float64)
    features = (features - features.mean()) / features.std(ddof=0)
    distances = cdist(features, features)
    for name, column in (("purity_source", "Metadata_Source"), ("purity_moa", MOA)):
        labels, compounds = both[column].to_numpy(), both[COMPOUND].to_numpy()
        apart = np.eye(len(both), dtype=bool)
        if column == MOA:
            apart = compounds[:, None] == compounds
        counted = min(15, (~apart).sum(axis=1).min())
        nearest = np.argsort(np.where(apart, np.inf, distances), axis=1, kind="stable")
        shares = (labels[nearest[:, :counted]] == labels[:, None]).mean(axis=1)
        assert scores[name] == shares.mean()
    silhouette = silhouette_samples(distances, both[MOA], metric="precomputed").mean()
    assert scores["silhouette_moa"] == silhouette
    rows = target.assign(**{MOA: target[MOA].fillna("")})
    pairs = {
        "pos_sameby": [COMPOUND],
        "pos_diffby": ["Metadata_Plate"],
        "neg_sameby": ["Metadata_Plate"],
        "neg_diffby": ["Metadata_pert_type"],
    }
    plain = copairs.map.average_precision(
        rows, rows[features_of(rows)].to_numpy(np.float64), **pairs
    )
    plain = plain[(plain[MOA] != "") & (plain["n_pos_pairs"] > 0)]
    found = average_precision(target.astype(dict.fromkeys(features_of(target), float)), **pairs)
    assert (found["average_precision"] == plain["average_precision"]).all()
    counts = zip(plain["n_pos_pairs"], plain["n_total_pairs"], strict=True)
    chance = [expected_ap(int(hits), int(total) - int(hits)) for hits, total in counts]
    assert found["chance"].tolist() == chance


def test_the_scores_of_training_runs_lie_below_each_other(pair, tmp_path):
    paths, expected = [], []
    runs = ("source_1", 2, pair[0]), ("source_1", 10, "no home"), ("source_4", 2, pair[0])
    for source, seed, home in runs:
        scores = score_representation(home, pair[1], replicates=20)
        scores.insert(0, "train_source", source)
        scores.insert(1, "seed", seed)
        paths.append(tmp_path / source / f"seed_{seed}.parquet")
        write_table(scores, paths[-1])
        expected.append(scores)
    output = tmp_path / "representation.csv"
    job = SimpleNamespace(
        input=SimpleNamespace(tables=paths),
        output=SimpleNamespace(representation=output),
        log=[str(tmp_path / "log")],
    )
    script = SCRIPTS / "merge_representation.py"
    runpy.run_path(str(script), init_globals={"snakemake": job})
    write_table(pd.concat(expected, ignore_index=True), tmp_path / "expected.csv")
    assert output.read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_what_is_undefined_is_empty_and_says_why():
    home, target = wells("source_1", ["H1"]), wells("source_2", ["P1"])
    target = target[target[MOA].isin(["moa 1"]) | target[MOA].isna()]
    scores = score_representation(home.iloc[:0], target, replicates=50).set_index("metric")
    assert scores[["value", "low", "high"]].isna().all(axis=None)
    assert "two plates" in scores.loc["map_replicates", "reason"]
    assert "another mechanism" in scores.loc["map_moa", "reason"]
    assert scores.loc["silhouette_moa", "reason"] == "1 mechanism among 3 wells"
    assert scores.loc["purity_batch", "reason"] == "1 batch among 3 wells"
    unlabelled = target[target[MOA].isna()]
    assert score_representation(home.iloc[:0], unlabelled, replicates=50)["value"].isna().all()


def test_every_method_is_scored_against_the_features_its_classifier_knows(tmp_path):
    table = with_embeddings(make_predictions(plates=("V", "T")))
    table["Metadata_Source"] = "source_1"
    away = with_embeddings(make_predictions(plates=("P1", "P2")), seed=3)
    away["Metadata_Source"] = "source_2"
    paths = {}
    for method, target, rows in (
        ("unadapted", "source_1", table[table["Metadata_Plate"] == "V"]),
        ("unadapted", "source_2", away),
        ("coda", "source_2", away),
        ("intensity", "source_1", table),  # controls predict all plates at home
        ("intensity", "source_2", away),
    ):
        path = tmp_path / "predictions/source_1/seed_4" / method / f"{target}.parquet"
        write_table(rows, path)
        paths[Path(method, path.stem)] = str(path)
    folder = tmp_path / "profiles/source_1/seed_4"
    export_profiles(paths, folder)
    plates = validation_plates(("source_1", "V"))
    scores = score_embeddings(folder, plates, replicates=50)
    assert set(scores["method"]) == {"unadapted", "coda", "intensity"}
    assert (scores["target_source"] == "source_2").all() and (scores["seed"] == 4).all()
    values = scores.pivot(index="metric", columns="method", values="value")
    for method in ("coda", "intensity"):
        assert values[method].to_numpy() == pytest.approx(values["unadapted"].to_numpy())


def test_a_method_without_features_of_a_plate_has_no_scores(tmp_path):
    home = with_embeddings(make_predictions(plates=("V",)))
    away = with_embeddings(make_predictions(plates=("P1", "P2")), seed=3)
    away["Metadata_Source"] = "source_2"
    there = (away["Metadata_Plate"] == "P1").to_numpy()
    lacking = away.assign(Reason=np.where(there, None, "no DMSO well"))
    unknown = np.full(12, np.nan, np.float32)
    lacking["Embedding"] = [
        known if answered else unknown
        for known, answered in zip(away["Embedding"], there, strict=True)
    ]
    paths = {}
    for method, target, rows in (
        ("unadapted", "source_1", home),
        ("unadapted", "source_2", away),
        ("coda_aligned_dmso", "source_2", lacking),
    ):
        path = tmp_path / "predictions/source_1/seed_4" / method / f"{target}.parquet"
        write_table(rows, path)
        paths[Path(method, path.stem)] = str(path)
    folder = tmp_path / "profiles/source_1/seed_4"
    export_profiles(paths, folder)
    plates = validation_plates(("source_1", "V"))
    write_table(score_embeddings(folder, plates, replicates=50), tmp_path / "scores.csv")
    scores = read_representation(tmp_path / "scores.csv").set_index("method")
    assert scores.loc["unadapted", "value"].notna().all()
    empty = scores.loc["coda_aligned_dmso"]
    assert empty["value"].isna().all() and (empty["reason"] == "no features of 1 of 2 plates").all()


def test_features_that_are_the_same_everywhere_say_nothing_and_stop_nothing(pair):
    """As of the control of positions, which gives wells of a layout that it does not know all the same."""
    home, target = pair
    features = features_of(target)
    known_by_none = target.assign(**dict.fromkeys(features, np.float32(1 / 3)))
    found = score_representation(home, known_by_none, replicates=100)
    assert list(found["metric"]) == list(METRICS)
    assert found[["value", "low", "high", "chance"]].isna().all(axis=None)
    assert set(found["reason"]) == {"the features of all wells are the same"}


def test_a_well_without_a_direction_is_left_out_of_retrieval(pair):
    target = pair[1].reset_index(drop=True)
    pairs = {"pos_sameby": [COMPOUND], "pos_diffby": ["Metadata_Plate"]}
    pairs |= {"neg_sameby": [], "neg_diffby": [COMPOUND]}
    without = target[target.index != 3]
    zero = target.copy()
    zero.loc[3, features_of(target)] = 0.0
    one, other = (
        average_precision(table, **pairs)["average_precision"] for table in (zero, without)
    )
    np.testing.assert_allclose(one, other)
    assert average_precision(zero.loc[[3]], **pairs) is None
