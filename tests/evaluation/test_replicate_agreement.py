"""Agreement between replicates, against a loop over pairs of wells, and the choice that it makes."""

import itertools

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.replicate_agreement import choose_by_agreement, replicate_agreement
from predictions import make_predictions

PLATES = ("P1", "P2", "P3")


def with_controls(**options) -> pd.DataFrame:
    table = make_predictions(**{"plates": PLATES, **options})
    dmso = table["Metadata_JCP2022"] == "JCP_DMSO"
    return table.assign(Metadata_pert_type=np.where(dmso, "negcon", "trt"), Quality_ok=True)


def plainly(table: pd.DataFrame) -> tuple[float, float]:
    """Observed agreement and chance, by a loop over all pairs of wells."""
    logits = list(table.filter(regex="^Logit_"))
    table = table[(table["Metadata_pert_type"] != "negcon") & table["Quality_ok"]]
    keys = ["Metadata_JCP2022", "Metadata_Plate", "Metadata_Well"]
    wells = [
        (*key, rows[logits].astype(float).mean().argmax()) for key, rows in table.groupby(keys)
    ]
    agree: dict[tuple[str, str], list[bool]] = {}
    for (one, plate, _, call), (two, other, _, answer) in itertools.permutations(wells, 2):
        if plate != other:
            agree.setdefault((one, two), []).append(call == answer)
    means = {pair: np.mean(each) for pair, each in agree.items()}
    return (
        np.mean([mean for (one, two), mean in means.items() if one == two]),
        np.mean([mean for (one, two), mean in means.items() if one != two]),
    )


def test_it_equals_a_loop_over_pairs_of_wells():
    table = with_controls(skill=1.5)
    # One compound has a second well on a plate, one is on a single plate, one site is flagged.
    twice = table["Metadata_JCP2022"] == "JCP_1"
    more = table[twice & (table["Metadata_Plate"] == "P1")].assign(Metadata_Well="C01")
    alone = (table["Metadata_JCP2022"] == "JCP_2") & (table["Metadata_Plate"] != "P2")
    table = pd.concat([table[~alone], more], ignore_index=True)
    table.loc[0, "Quality_ok"] = False
    found = replicate_agreement(table)
    observed, chance = plainly(table)
    assert found.observed == pytest.approx(observed, abs=1e-12)
    assert found.chance == pytest.approx(chance, abs=1e-12)
    assert found.value == pytest.approx((observed - chance) / (1 - chance), abs=1e-12)
    assert found.compounds == 11
    assert 0.2 < found.value < 0.9


def test_it_is_one_for_equal_replicates_and_near_zero_for_calls_by_chance():
    assert replicate_agreement(with_controls(skill=50.0)).value == 1
    values = [replicate_agreement(with_controls(seed=seed, skill=0.0)).value for seed in range(40)]
    assert abs(np.mean(values)) < 0.05


def test_calls_that_are_all_the_same_or_follow_the_plate_tell_nothing():
    table = with_controls(skill=0.0)
    same = table.assign(**{"Logit_moa 2": 99.0})
    assert replicate_agreement(same).value == 0
    for number, plate in enumerate(PLATES):
        table.loc[table["Metadata_Plate"] == plate, f"Logit_moa {number}"] = 99.0
    assert replicate_agreement(table).observed == 0


def test_it_looks_at_no_label_and_at_no_control():
    table = with_controls(skill=1.0)
    other = table.assign(Metadata_moa=table["Metadata_moa"].sample(frac=1, random_state=0).values)
    controls = other["Metadata_pert_type"] == "negcon"
    other.loc[controls, "Logit_moa 0"] = 99.0
    assert replicate_agreement(other) == replicate_agreement(table)


def test_one_plate_has_no_replicates():
    with pytest.raises(UserError, match="on two plates or more; take more plates"):
        replicate_agreement(with_controls(plates=("P1",)))


def test_the_method_that_agrees_best_is_chosen_and_of_equals_the_first():
    tables = {
        name: with_controls(seed=seed, skill=skill)
        for seed, (name, skill) in enumerate({"weak": 0.5, "strong": 2.5, "none": 0.0}.items())
    }
    name, scores = choose_by_agreement(tables)
    assert name == "strong" and scores["method"].tolist() == list(tables)
    own = replicate_agreement(tables["weak"])
    assert scores.set_index("method").loc["weak", "value"] == own.value
    assert choose_by_agreement({"first": tables["weak"], "second": tables["weak"]})[0] == "first"


def test_methods_are_compared_where_all_of_them_have_predictions():
    plain, aligned = with_controls(skill=1.0), with_controls(skill=1.0)
    logits = list(aligned.filter(regex="^Logit_"))
    aligned.loc[aligned["Metadata_Plate"] == "P3", logits] = np.nan
    _, scores = choose_by_agreement({"plain": plain, "aligned": aligned})
    two = replicate_agreement(plain[plain["Metadata_Plate"] != "P3"])
    assert scores["value"].tolist() == [two.value, two.value]
    with pytest.raises(UserError, match="aligned are not of the same sites"):
        choose_by_agreement({"plain": plain, "aligned": aligned[::-1]})
