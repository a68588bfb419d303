"""A recommendation: made without labels, for the better method, never for one that moves the controls away."""

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.recommendation import (
    choose,
    compare_methods,
    control_distance,
    divergence,
    read_recommendations,
    recommendations,
)
from coda.evaluation.replicate_agreement import replicate_agreement
from coda.files import write_table
from predictions import make_predictions
from scipy.spatial.distance import jensenshannon

PLATES = ("P1", "P2", "P3")


def table_of(skill=1.0, seed=0, plates=PLATES, push=0.0) -> pd.DataFrame:
    """Predictions with a skill, whose controls are pushed towards the first class."""
    table = make_predictions(seed=seed, plates=plates, skill=skill)
    dmso = table["Metadata_JCP2022"] == "JCP_DMSO"
    table.loc[dmso, "Logit_moa 0"] += push
    return table.assign(Metadata_pert_type=np.where(dmso, "negcon", "trt"))


HOME = table_of(skill=3.0, seed=9, plates=("H1",))


def chosen(tables, home=HOME):
    return choose(compare_methods(tables, home))


def test_the_method_that_agrees_best_is_chosen_and_of_equals_the_first():
    same = {"unadapted": 0.5, "coda": 2.5, "oda": 0.0}
    tables = {
        name: table_of(skill, 0 if name == "unadapted" else 3) for name, skill in same.items()
    }
    tables["unadapted"] = table_of(0.5, push=2.0)
    compared = compare_methods(tables, HOME).set_index("method")
    assert chosen(tables) == "coda" == compared["confidence"].idxmax()
    assert compared["confidence"].sum() == pytest.approx(1) and compared["confidence"].max() > 0.9
    assert compared["agreement"]["oda"] == replicate_agreement(tables["oda"]).information
    assert chosen({"unadapted": tables["coda"], "coda": tables["coda"]}) == "unadapted"


def test_a_method_that_moves_the_controls_away_is_not_chosen_however_much_it_agrees():
    tables = {"unadapted": table_of(0.5), "coda": table_of(9.0, push=8.0), "oda": table_of(1.5)}
    compared = compare_methods(tables, HOME).set_index("method")
    assert compared["agreement"].idxmax() == "coda" and compared["confidence"]["coda"] == 0
    assert choose(compared.reset_index()) == "oda"


def test_controls_of_another_network_are_judged_by_its_own_at_home():
    tables = {"unadapted": table_of(0.5), "supervised_adabn": table_of(2.5, push=8.0)}
    assert chosen(tables) == "unadapted"
    home = table_of(3.0, seed=9, plates=("H1",), push=8.0)
    other = {"supervised_adabn": ("supervised", home)}
    assert choose(compare_methods(tables, HOME, other)) == "supervised_adabn"


def test_a_method_is_not_chosen_that_moves_the_controls_further_than_its_own_network_had_them():
    tables = {
        "unadapted": table_of(0.5, push=9.0),
        "supervised": table_of(1.5, 3),
        "supervised_adabn": table_of(2.5, push=4.0),
    }
    other = {name: ("supervised", HOME) for name in ("supervised", "supervised_adabn")}
    compared = compare_methods(tables, HOME, other).set_index("method")
    assert compared["agreement"].idxmax() == "supervised_adabn"
    far = compared["control_distance"]
    assert far["supervised"] < far["supervised_adabn"] < far["unadapted"]
    assert choose(compared.reset_index()) == "supervised"


def test_the_distance_of_controls_is_the_squared_distance_of_scipy():
    names = [f"Logit_moa {number}" for number in range(4)]
    away, means = table_of(push=3.0), []
    for table in (away, HOME):
        controls = table.loc[table["Metadata_pert_type"] == "negcon", names].astype(float)
        odds = np.exp(controls)
        means.append(odds.div(odds.sum(axis=1), axis=0).mean())
    wanted = jensenshannon(*means, base=2) ** 2
    assert control_distance(away, HOME) == pytest.approx(wanted) and wanted > 0.05
    assert control_distance(HOME, HOME) == 0
    assert np.isnan(control_distance(away[away["Metadata_pert_type"] != "negcon"], HOME))


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ([1, 0], [0, 1], 1),
        ([0.5, 0.5, 0], [1, 0, 0], 1.5 - 0.75 * np.log2(3)),
        ([0, 1, 0], [0, 1, 0], 0),
        ([1, 5e-324], [1, 0], 0),  # half of the second underflows
    ],
)
def test_classes_without_probability_add_nothing_to_the_divergence(one, other, wanted):
    one, other = np.array(one, np.float64), np.array(other, np.float64)
    assert divergence(one, other) == pytest.approx(wanted, abs=1e-15)
    assert divergence(other, one) == divergence(one, other)


def test_controls_of_which_a_class_underflows_have_a_distance():
    sure = table_of()
    sure.loc[sure["Metadata_pert_type"] == "negcon", "Logit_moa 0"] += 1e4
    assert control_distance(sure, sure) == 0
    assert 0.1 < control_distance(sure, HOME) <= 1


def test_labels_change_nothing():
    tables = {"unadapted": table_of(1.0), "coda": table_of(2.0)}
    labels = tables["coda"]["Metadata_moa"].sample(frac=1, random_state=0).values
    noise = {name: table.assign(Metadata_moa=labels) for name, table in tables.items()}
    pd.testing.assert_frame_equal(compare_methods(tables, HOME), compare_methods(noise, HOME))


def test_methods_are_compared_where_all_of_them_have_predictions():
    plain, aligned, lost = table_of(), table_of(), table_of()
    logits = list(aligned.filter(regex="^Logit_"))
    aligned.loc[aligned["Metadata_Plate"] == "P3", logits] = np.nan
    lost[logits] = np.nan
    compared = compare_methods({"unadapted": plain, "a": aligned, "lost": lost}, HOME)
    assert compared["method"].tolist() == ["unadapted", "a"]
    two = replicate_agreement(plain[plain["Metadata_Plate"] != "P3"])
    assert compared["agreement"].tolist() == [two.information] * 2
    with pytest.raises(UserError, match="a are not of the same sites"):
        compare_methods({"unadapted": plain, "a": aligned[::-1]}, HOME)


def test_one_plate_or_no_controls_are_told_and_without_replicates_nothing_is_chosen():
    single = {"unadapted": table_of(plates=("P1",)), "coda": table_of(2.0, plates=("P1",))}
    compared = compare_methods(single, HOME)
    assert compared["agreement"].isna().all() and compared["confidence"].isna().all()
    assert choose(compared) is None
    assert "on two plates or more" in compared["reason"][0]
    treated = {"unadapted": table_of(0.5), "coda": table_of(2.5)}
    treated = {name: each[each["Metadata_pert_type"] != "negcon"] for name, each in treated.items()}
    compared = compare_methods(treated, HOME)
    assert "no negative controls" in compared["reason"][0] and choose(compared) == "coda"


def test_training_runs_are_averaged_and_one_method_a_pair_is_marked():
    runs = []
    for seed in (1, 2):
        for target in ("b", "c"):
            tables = {"unadapted": table_of(0.5, seed, push=2), "coda": table_of(2.5, seed)}
            rows = compare_methods(tables, HOME)
            runs.append(rows.assign(train_source="a", target_source=target, seed=seed))
    found = recommendations(pd.concat(runs))
    assert len(found) == 4 and found["seeds"].eq(2).all()
    assert found.loc[found["chosen"], ["target_source", "method"]].to_numpy().tolist() == [
        ["b", "coda"],
        ["c", "coda"],
    ]
    one, two = (rows.set_index("method")["agreement"]["coda"] for rows in (runs[0], runs[2]))
    assert found["agreement"][1] == pytest.approx((one + two) / 2)


def test_the_table_is_read_back_as_it_was_written(tmp_path):
    table = pd.DataFrame(
        {
            "train_source": "a", "target_source": "b", "method": ["x", "y"], "agreement": [0.5, 0.25],
            "control_distance": [1.0, float("nan")], "control_limit": [1.0, 1.0], "confidence": [0.75, 0.25],
            "seeds": [1, 1], "chosen": [True, False], "reason": ["why", None],
        }
    )  # fmt: skip
    write_table(table, tmp_path / "recommendation.csv")
    pd.testing.assert_frame_equal(
        read_recommendations(tmp_path / "recommendation.csv"), table, check_dtype=False
    )
