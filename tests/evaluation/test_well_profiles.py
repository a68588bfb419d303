"""Well profiles: right means, whole files, and two libraries of the field that use them as they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.well_profiles import export_profiles, features_of, read_profiles, well_profiles
from coda.files import write_table
from predictions import make_predictions, with_embeddings


@pytest.fixture
def exported(tmp_path):
    table = with_embeddings(make_predictions(plates=("P1", "P2", "00123")))
    path = tmp_path / "predictions/source_2/seed_1/coda/source_1.parquet"
    write_table(table, path)
    export_profiles({Path("coda/source_1"): str(path)}, tmp_path / "profiles")
    return table, tmp_path / "profiles/coda/source_1"


def test_a_profile_is_the_mean_over_the_sites_of_its_well(exported):
    table, folder = exported
    profiles = read_profiles(folder)
    assert len(profiles) == 3 * (12 + 2)
    for row in profiles.sample(10, random_state=0).itertuples():
        sites = table[
            (table["Metadata_Plate"] == row.Metadata_Plate)
            & (table["Metadata_Well"] == row.Metadata_Well)
        ]
        mean = np.mean(np.stack(sites["Embedding"].tolist()).astype(np.float64), axis=0)
        found = profiles.loc[row.Index, features_of(profiles)].to_numpy(np.float64)
        assert found == pytest.approx(mean, abs=1e-6)
        assert row.Metadata_Sites == len(sites) == 3
        assert row.Metadata_JCP2022 == sites["Metadata_JCP2022"].iloc[0]


def test_files_have_metadata_first_and_keep_identifiers(exported):
    _, folder = exported
    assert sorted(path.name for path in folder.iterdir()) == [
        "00123.parquet",
        "P1.parquet",
        "P2.parquet",
    ]
    profiles = pd.read_parquet(folder / "00123.parquet")
    assert set(profiles["Metadata_Plate"]) == {"00123"}
    kinds = [name.startswith("Metadata_") for name in profiles.columns]
    assert kinds == sorted(kinds, reverse=True) and "Metadata_Site" not in profiles
    features = profiles[features_of(profiles)]
    assert features.shape[1] == 12 == kinds.count(False)
    assert (features.dtypes == np.float32).all() and features.notna().all(axis=None)


def test_the_order_of_sites_changes_nothing():
    table = with_embeddings(make_predictions())
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(well_profiles(shuffled), well_profiles(table))


def test_old_plates_go_and_faults_are_refused(exported, tmp_path):
    table, folder = exported
    path = tmp_path / "predictions/source_2/seed_1/coda/source_1.parquet"
    write_table(table[table["Metadata_Plate"] == "P1"], path)
    export_profiles({Path("coda/source_1"): str(path)}, tmp_path / "profiles")
    assert [path.name for path in folder.iterdir()] == ["P1.parquet"]
    write_table(table.drop(columns="Embedding"), path)
    with pytest.raises(UserError, match="no embeddings"):
        export_profiles({Path("coda/source_1"): str(path)}, tmp_path / "profiles")
    broken = table.copy()
    broken.at[0, "Embedding"] = np.full(12, np.nan, np.float32)
    with pytest.raises(UserError, match="not a finite number"):
        well_profiles(broken)


def test_pycytominer_normalises_and_selects(exported):
    from pycytominer import feature_select, normalize

    _, folder = exported
    path = str(folder / "P1.parquet")
    names = features_of(pd.read_parquet(path))
    normalised = normalize(
        path, features=names, meta_features="infer", samples="Metadata_pert_type == 'negcon'"
    )
    assert list(normalised.columns) == list(pd.read_parquet(path).columns)
    dmso = normalised.loc[normalised["Metadata_pert_type"] == "negcon", names]
    assert dmso.mean().to_numpy() == pytest.approx(0, abs=1e-5)
    constant = pd.read_parquet(path).assign(Embedding_99=1.0)
    selected = feature_select(
        constant, features=[*names, "Embedding_99"], operation="variance_threshold"
    )
    assert "Embedding_99" not in selected and set(names) <= set(selected)


def test_copairs_finds_replicates(exported):
    from copairs.map import average_precision, mean_average_precision

    _, folder = exported
    profiles = read_profiles(folder)
    found = average_precision(
        profiles.filter(regex="^Metadata_"),
        profiles[features_of(profiles)].to_numpy(),
        pos_sameby=["Metadata_JCP2022"],
        pos_diffby=["Metadata_Plate"],
        neg_sameby=["Metadata_Plate"],
        neg_diffby=["Metadata_pert_type"],
        progress_bar=False,
    )
    found = found[found["Metadata_pert_type"] == "trt"]
    assert (found["n_pos_pairs"] == 2).all() and (found["n_total_pairs"] == 4).all()
    means = mean_average_precision(
        found, ["Metadata_JCP2022"], null_size=100, threshold=0.05, seed=0, progress_bar=False
    )
    assert len(means) == 12 and means["mean_average_precision"].mean() > 0.9
