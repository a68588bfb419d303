"""Scores of the features against second, plain calculations in float64, and cases with a known answer."""

import numpy as np
import pandas as pd
import pytest
from coda.files import write_table
from coda.profiles import export_profiles, features_of, well_profiles
from coda.representation import (
    COMPOUND,
    METRICS,
    MOA,
    read_representation,
    score_embeddings,
    score_representation,
)
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors
from test_evaluation import make_predictions
from test_well_profiles import with_embeddings


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


def kept(*plates):
    """Validation plates."""
    columns = ["Metadata_Source", "Metadata_Plate"]
    return pd.DataFrame(plates, columns=columns).assign(subset="validation")


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


def test_what_is_undefined_is_empty_and_says_why():
    home, target = wells("source_1", ["H1"]), wells("source_2", ["P1"])
    target = target[target[MOA].isin(["moa 1"]) | target[MOA].isna()]
    scores = score_representation(home.iloc[:0], target, replicates=50).set_index("metric")
    assert scores[["value", "low", "high"]].isna().all(axis=None)
    assert "two plates" in scores.loc["map_replicates", "reason"]
    assert "another mechanism" in scores.loc["map_moa", "reason"]
    assert scores.loc["silhouette_moa", "reason"] == "1 mechanism among 3 wells"
    assert scores.loc["purity_batch", "reason"] == "1 batch among 3 wells"


def test_every_method_is_scored_against_the_features_its_classifier_knows(tmp_path):
    table = with_embeddings(make_predictions(plates=("V", "T")))
    table["Metadata_Source"] = "source_1"
    away = with_embeddings(make_predictions(plates=("P1", "P2")), seed=3)
    away["Metadata_Source"] = "source_2"
    paths = []
    for method, target, rows in (
        ("unadapted", "source_1", table[table["Metadata_Plate"] == "V"]),
        ("unadapted", "source_2", away),
        ("coda", "source_2", away),
        ("intensity", "source_1", table),  # controls predict all plates at home
        ("intensity", "source_2", away),
    ):
        path = tmp_path / "predictions/source_1/seed_4" / method / f"{target}.parquet"
        write_table(rows, path)
        paths.append(str(path))
    folder = tmp_path / "profiles/source_1/seed_4"
    export_profiles(paths, folder)
    plates = kept(("source_1", "V"))
    scores = score_embeddings([folder], plates, replicates=50)
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
    paths = []
    for method, target, rows in (
        ("unadapted", "source_1", home),
        ("unadapted", "source_2", away),
        ("coda_aligned_dmso", "source_2", lacking),
    ):
        path = tmp_path / "predictions/source_1/seed_4" / method / f"{target}.parquet"
        write_table(rows, path)
        paths.append(str(path))
    folder = tmp_path / "profiles/source_1/seed_4"
    export_profiles(paths, folder)
    plates = kept(("source_1", "V"))
    write_table(score_embeddings([folder], plates, replicates=50), tmp_path / "scores.csv")
    scores = read_representation(tmp_path / "scores.csv").set_index("method")
    assert scores.loc["unadapted", "value"].notna().all()
    empty = scores.loc["coda_aligned_dmso"]
    assert empty["value"].isna().all() and (empty["reason"] == "no features of 1 of 2 plates").all()
