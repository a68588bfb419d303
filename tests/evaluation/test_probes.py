"""Probes against scikit-learn, and sphering against what it promises."""

import numpy as np
import pandas as pd
import pytest
import torch
from coda.errors import UserError
from coda.evaluation.probes import FEWEST, predict_probe, sphere
from coda.evaluation.units import classes_of
from coda.training.knn import knn_logits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

KNN = {"k": 5, "temperature": 0.1}
MOAS = ["moa a", "moa b", "moa c"]


def plate(seed, name="p1", sites=90, width=6, stretch=None, dmso=30, source="s1"):
    """Embeddings of three classes and DMSO, seen through a linear map."""
    random = np.random.default_rng(seed)
    label = np.arange(sites) % 3
    centres = np.eye(3, width) * 3
    embedding = random.normal(size=(sites, width)) + centres[label]
    embedding = np.concatenate([embedding, random.normal(size=(dmso, width))])
    if stretch is not None:
        embedding = embedding @ stretch + 10
    moa = [MOAS[n] for n in label] + [None] * dmso
    return pd.DataFrame(
        {
            "Metadata_Source": source,
            "Metadata_Plate": name,
            "Metadata_pert_type": ["trt"] * sites + ["negcon"] * dmso,
            "Metadata_moa": moa,
            "Quality_ok": True,
            "Embedding": list(embedding.astype(np.float32)),
        }
    )


def logits(table):
    return table.filter(regex="^Logit_").to_numpy(np.float64)


def features(table):
    return np.stack(table["Embedding"].to_list()).astype(np.float64).copy()


def test_linear_is_scikit_learns_on_standardised_features():
    home, away = plate(0), plate(1)
    found = predict_probe(home, away, "linear", False, KNN)
    known = home[home["Metadata_moa"].notna()]
    scale = StandardScaler().fit(features(known))
    model = LogisticRegression(max_iter=5000)
    model.fit(scale.transform(features(known)), known["Metadata_moa"])
    expected = model.predict_log_proba(scale.transform(features(away)))
    assert classes_of(found) == list(model.classes_) == MOAS
    np.testing.assert_allclose(logits(found), expected, atol=1e-4)
    assert len(found) == len(away) and "Reason" not in found


def test_knn_is_the_weighted_vote_and_agrees_with_scikit_learn():
    home, away = plate(0), plate(1)
    found = logits(predict_probe(home, away, "knn", False, KNN))
    known = home[home["Metadata_moa"].notna()]
    numbers = known["Metadata_moa"].map(MOAS.index).to_numpy(copy=True)
    votes = knn_logits(
        *(torch.from_numpy(x) for x in (features(known), numbers, features(away))), 3, **KNN
    )
    assert (found.argmax(1) == votes.argmax(1).numpy()).all()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)

    def weights(distances):
        return np.exp((1 - distances) / KNN["temperature"])

    other = KNeighborsClassifier(5, weights=weights, metric="cosine", algorithm="brute")
    other.fit(features(known), numbers)
    shares = (other.predict_proba(features(away)) * 5 + 1 / 3) / 6
    np.testing.assert_allclose(np.exp(found), shares, atol=1e-5)


def test_sphering_gives_dmso_identity_covariance_plate_by_plate():
    random = np.random.default_rng(3)
    turns = [np.linalg.qr(random.normal(size=(6, 6)))[0] for _ in range(2)]
    maps = [turn @ np.diag([0.3, 0.6, 1, 1.5, 2, 3]) @ turn.T for turn in turns]
    tables = [plate(n, f"p{n}", stretch=m, dmso=20000) for n, m in enumerate(maps)]
    table = pd.concat(tables, ignore_index=True)
    sphered = sphere(table)
    for name in ("p0", "p1"):
        dmso = (table["Metadata_Plate"] == name) & (table["Metadata_pert_type"] == "negcon")
        np.testing.assert_allclose(sphered[dmso].mean(axis=0), 0, atol=1e-9)
        # Ledoit and Wolf's shrinkage goes to nothing as sites grow many
        np.testing.assert_allclose(np.cov(sphered[dmso].T), np.eye(6), atol=0.03)


def test_sphering_does_not_depend_on_what_else_is_on_the_plate():
    table = plate(0)
    half = table[table["Metadata_moa"] != "moa c"].reset_index(drop=True)
    kept = (table["Metadata_moa"] != "moa c").to_numpy()
    np.testing.assert_allclose(sphere(half), sphere(table)[kept])


@pytest.mark.parametrize("width", [64, 384])
def test_the_fewest_dmso_sites_in_many_dimensions_stay_tame(width):
    """What no DMSO site showed is not blown up: other DMSO sites come out about as wide as these."""
    for seed in range(3):
        table = plate(seed, width=width, dmso=FEWEST + 200)
        table.loc[90 + FEWEST :, "Metadata_pert_type"] = "other"
        sphered = sphere(table)
        known, other = sphered[90 : 90 + FEWEST], sphered[90 + FEWEST :]
        assert np.abs(sphered).max() < 10
        assert other.std() < 3 * known.std()


def test_too_few_or_too_like_dmso_sites_are_not_sphered_by():
    for dmso in (0, 1, 2, 6, FEWEST - 1):
        assert np.isnan(sphere(plate(0, width=64, dmso=dmso))).all()
    assert np.isfinite(sphere(plate(0, width=64, dmso=FEWEST))).all()
    table, random = plate(0, width=64, dmso=40), np.random.default_rng(0)
    one = random.normal(size=64)
    for jitter in (
        0.0,
        1e-6,
    ):  # two kinds of sites only: the shrinkage is none, and no inverse exists
        sites = np.sign(np.arange(40) % 2 - 0.5)[:, None] * one
        sites = sites + jitter * random.normal(size=sites.shape)
        table["Embedding"] = table["Embedding"].to_list()[:90] + list(sites)
        assert np.isnan(sphere(table)).all()
    table["Embedding"] = table["Embedding"].to_list()[:90] + [one] * 40
    assert np.isnan(sphere(table)).all()


def test_sphering_undoes_what_a_lab_does_to_all_its_wells():
    stretch = np.diag([8.0, 0.1, 1, 0.5, 2, 1])
    home, away = plate(0, dmso=300), plate(1, "p2", stretch=stretch, dmso=300, source="s2")
    right = {}
    for sphered in (False, True):
        found = predict_probe(home, away, "linear", sphered, KNN)
        named = np.array(MOAS)[logits(found).argmax(axis=1)]
        labelled = away["Metadata_moa"].notna().to_numpy()
        right[sphered] = (named == away["Metadata_moa"])[labelled].mean()
    assert right[True] > 0.8 and right[True] > right[False] + 0.2


def test_labels_of_the_target_change_nothing():
    home, away = plate(0), plate(1)
    blind = away.assign(Metadata_moa=None)
    for probe in ("knn", "linear"):
        one, two = (logits(predict_probe(home, t, probe, True, KNN)) for t in (away, blind))
        assert (one == two).all()


def test_a_plate_without_dmso_is_left_empty_and_says_why():
    home = plate(0)
    bare = plate(2, "p9", dmso=1)
    away = pd.concat([plate(1), bare], ignore_index=True)
    found = predict_probe(home, away, "linear", True, KNN)
    empty = found["Metadata_Plate"] == "p9"
    assert np.isnan(logits(found[empty])).all() and np.isfinite(logits(found[~empty])).all()
    assert found.loc[empty, "Reason"].str.contains("p9 has too few DMSO sites").all()
    assert found.loc[~empty, "Reason"].isna().all()


@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_training_plates_without_dmso_leave_all_empty_and_say_why(probe):
    away = plate(1)
    lost = plate(3, "p8").query("Metadata_moa != 'moa c'")
    partly = pd.concat([lost, plate(2, "p9", dmso=0)], ignore_index=True)  # moa c on p9 alone
    for home in (plate(2, "p9", dmso=0), partly):
        found = predict_probe(home, away, probe, True, KNN)
        assert classes_of(found) == MOAS and len(found) == len(away)
        assert np.isnan(logits(found)).all() and np.isnan(features(found)).all()
        assert found["Reason"].str.contains("training plates have too few DMSO sites").all()
        assert "Reason" not in predict_probe(home, away, probe, False, KNN)


def test_a_class_without_any_training_site_is_refused():
    home = plate(0)
    home["Quality_ok"] = home["Metadata_moa"] != "moa b"
    for sphered in (False, True):
        with pytest.raises(UserError, match="learn moa b"):
            predict_probe(home, plate(1), "linear", sphered, KNN)


def test_flagged_sites_teach_nothing():
    home, away = plate(0), plate(1)
    noisy = home.copy()
    noisy.loc[:2, "Metadata_moa"] = ["moa c", "moa a", "moa b"]
    noisy["Quality_ok"] = noisy.index > 2
    clean = home.iloc[3:].reset_index(drop=True)
    one, two = (logits(predict_probe(t, away, "linear", False, KNN)) for t in (noisy, clean))
    np.testing.assert_allclose(one, two, atol=1e-5)
