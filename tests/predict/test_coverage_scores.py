"""The coverage that sets reach, against counts by hand and the coverage that theory promises."""

import numpy as np
import pandas as pd
import pytest
from coda.evaluation.coverage_table import read_coverage
from coda.files import write_table
from coda.predict.coverage_scores import score_coverage
from predictions import make_predictions

PLATES = pd.DataFrame(
    {
        "Metadata_Source": ["source_1", "source_2", "source_2"],
        "Metadata_Plate": ["H", "P1", "P2"],
        "subset": ["validation", "train", "validation"],
    }
)


def scored(tmp_path, home, asked=0.9, **targets):
    """Write predictions and score them: of the training source, and by methods of source 2."""
    runs = []
    for method, table in {"unadapted": home, **targets}.items():
        path = tmp_path / f"{method}_{len(runs)}.parquet"
        write_table(table, path)
        target = "source_2" if runs else "source_1"
        runs.append({"train_source": "source_1", "target_source": target, "seed": 1})
        runs[-1] |= {"method": method, "path": str(path)}
    return score_coverage(runs, PLATES, asked)


def wrong(table, compounds):
    """Swap what is said of some compounds for another class."""
    table = table.copy()
    rows = table["Metadata_JCP2022"].isin(compounds)
    logits = [f"Logit_moa {number}" for number in range(4)]
    table.loc[rows, logits] = np.roll(table.loc[rows, logits].to_numpy(), 1, axis=1)
    return table


def test_sure_predictions_are_covered_as_often_as_they_are_right(tmp_path):
    home = make_predictions(1, plates=("H",), skill=40)
    away = make_predictions(2, plates=("P1", "P2"), skill=40).assign(Metadata_Source="source_2")
    lost = [f"JCP_{number}" for number in (0, 1, 5)]
    table = scored(tmp_path, home, coda=wrong(away, lost))
    assert set(table["split"]) == {"validation", "adapted", "held_out"}
    assert table.loc[table["split"] == "validation", "coverage"].eq(1).all()
    for _, rows in table[table["split"] != "validation"].groupby(["split", "level"]):
        whole = rows[rows["of"] == "all"].iloc[0]
        assert whole[["units", "compounds"]].tolist() == [12, 12]
        assert whole["coverage"] == pytest.approx(9 / 12) and whole["set_size"] == 1
        each = rows[rows["of"] == "mechanism"].set_index("name")["coverage"]
        assert each.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1])
        alone = rows[rows["of"] == "compound"].set_index("name")
        assert sorted(alone.index[alone["coverage"] == 0]) == sorted(lost)
        assert alone["low"].isna().all()


def test_the_interval_is_wilsons_for_as_many_draws_as_compounds(tmp_path):
    home = make_predictions(1, plates=("H",), skill=40)
    away = make_predictions(2, plates=("P1",), skill=40).assign(Metadata_Source="source_2")
    away = pd.concat([away, away.assign(Metadata_Well="C" + away["Metadata_Well"].str[1:])])
    table = scored(tmp_path, home, coda=wrong(away, ["JCP_0", "JCP_1", "JCP_5"]))
    rows = table[(table["of"] == "all") & (table["split"] == "adapted")].set_index("level")
    assert rows["units"].to_dict() == {"compound": 12, "well": 24}
    n, p, z = 12, 9 / 12, 1.959963985
    middle, half = p + z**2 / 2 / n, z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    for level in ("compound", "well"):
        assert rows.loc[level, "low"] == pytest.approx((middle - half) / (1 + z**2 / n))
        assert rows.loc[level, "high"] == pytest.approx((middle + half) / (1 + z**2 / n))


@pytest.mark.parametrize("asked", [0.7, 0.9])
def test_at_home_sets_hold_the_right_mechanism_as_often_as_was_asked_for(tmp_path, asked):
    reached = []
    for seed in range(12):
        home = make_predictions(seed, compounds=15, plates=("H",), sites=1, skill=1.5)
        table = scored(tmp_path, home, asked)
        rows = table[(table["of"] == "all") & (table["level"] == "compound")]
        reached.append(rows["coverage"].item())
    error = 2.5 * np.sqrt(asked * (1 - asked) / (60 * len(reached)))
    assert asked - error <= np.mean(reached) <= asked + 1 / 49 + error


def test_sites_of_bad_quality_and_methods_without_predictions_count_in_nothing(tmp_path):
    home = make_predictions(1, plates=("H",), skill=40)
    away = make_predictions(2, plates=("P1",), skill=40).assign(Metadata_Source="source_2")
    bad = wrong(away, ["JCP_0"]).assign(Quality_ok=False, Metadata_Site=9)
    none = away.copy()
    none[none.filter(like="Logit_").columns] = np.nan
    table = scored(tmp_path, home, coda=pd.concat([away.assign(Quality_ok=True), bad]), oda=none)
    assert set(table["method"]) == {"unadapted", "coda"}
    assert table.loc[table["split"] == "adapted", "coverage"].eq(1).all()
    write_table(table, tmp_path / "coverage.csv")
    again = read_coverage(tmp_path / "coverage.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
