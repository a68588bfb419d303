"""Which features of the training source a method's are compared with."""

from pathlib import Path

import pandas as pd
import pytest
from coda.evaluation.embedding_scores import home_of, score_embeddings, score_representation
from coda.evaluation.well_profiles import export_profiles
from coda.files import write_table
from plates import validation_plates
from predictions import make_predictions, with_embeddings


def run_of(folder, homes, methods):
    """Profiles of a run: every method on a target, and features of its own at home for some.

    The features of each of `homes` are shifted by its place among them; those of the others are not.
    """
    paths = {}
    for method in methods:
        place = 100.0 * homes.index(method) if method in homes else 0.0
        for source, plates in (("source_1", ("T", "V")), ("source_2", ("P1", "P2"))):
            if source == "source_2" or method in homes:
                table = with_embeddings(make_predictions(plates=plates), seed=len(plates))
                table["Metadata_Source"] = source
                table["Embedding"] = table["Embedding"] + place
                path = folder / "predictions/source_1/seed_4" / method / f"{source}.parquet"
                write_table(table, path)
                paths[Path(method, path.stem)] = str(path)
    export_profiles(paths, folder / "profiles/source_1/seed_4")
    return folder / "profiles/source_1/seed_4"


@pytest.mark.parametrize(
    ("method", "home"),
    [
        ("unadapted_aligned", ["unadapted_aligned"]),
        ("coda", ["unadapted"]),
        ("coda_replay_aligned_dmso", ["unadapted"]),
        ("coda_knn", ["unadapted"]),
        ("coda_linear_sphered", ["unadapted_knn_sphered", "unadapted_linear_sphered"]),
        ("unadapted_knn_sphered", ["unadapted_knn_sphered"]),
        ("supervised", ["supervised"]),
        ("supervised_tent", ["supervised"]),
        ("shuffled", ["shuffled"]),
        ("coda_aligned_dmso_linear", ["unadapted"]),
        ("oracle", ["oracle"]),
        ("intensity", ["intensity"]),
    ],
)
def test_features_are_compared_with_those_of_the_same_network_at_home(method, home):
    assert home_of(method) == home


def test_adapted_methods_take_the_home_of_what_they_started_from(tmp_path):
    homes = ["unadapted", "supervised", "unadapted_linear_sphered"]
    follow = {"coda": 0, "supervised_tent": 1, "coda_knn_sphered": 2}
    folder = run_of(tmp_path, homes, [*homes, *follow])
    scores = score_embeddings(folder, validation_plates(("source_1", "V")), replicates=50)
    home = {name: pd.read_parquet(folder / name / "source_1/V.parquet") for name in homes}
    for method, place in follow.items():
        target = pd.concat(
            [
                pd.read_parquet(folder / method / f"source_2/{plate}.parquet")
                for plate in ("P1", "P2")
            ],
            ignore_index=True,
        )
        expected = score_representation(home[homes[place]], target, replicates=50)
        found = scores[scores["method"] == method]
        assert found["value"].to_numpy() == pytest.approx(expected["value"].to_numpy())


def test_without_such_a_home_only_the_target_is_scored(tmp_path):
    folder = run_of(tmp_path, ["unadapted"], ["unadapted", "supervised_tent", "coda_knn_sphered"])
    scores = score_embeddings(folder, validation_plates(("source_1", "V")), replicates=50)
    scores = scores.set_index(["method", "metric"])
    for method, lacking in (
        ("supervised_tent", "by supervised"),
        ("coda_knn_sphered", "by unadapted_knn_sphered or unadapted_linear_sphered"),
    ):
        rows = scores.loc[method]
        alone = rows.index.str.startswith("map_")
        assert rows.loc[alone, "value"].to_numpy() == pytest.approx(
            scores.loc["unadapted"].loc[alone, "value"].to_numpy()
        )
        assert rows.loc[~alone, ["value", "low", "high", "chance"]].isna().all(axis=None)
        assert rows.loc[~alone, "reason"].str.endswith(lacking).all()


def test_a_validation_plate_of_another_source_with_the_same_id_is_not_taken(tmp_path):
    folder = run_of(tmp_path, ["unadapted"], ["unadapted", "coda"])
    one, two = (
        score_embeddings(folder, validation_plates(("source_1", "V"), *more), replicates=50)[
            "value"
        ]
        for more in ([], [("source_2", "T"), ("source_2", "V")])
    )
    pd.testing.assert_series_equal(one, two)
