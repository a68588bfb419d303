"""Agreement between replicates, against a loop over pairs of wells."""

import itertools

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.replicate_agreement import (
    joints_of_compounds,
    mutual_information,
    replicate_agreement,
)
from predictions import make_predictions

PLATES = ("P1", "P2", "P3")


def with_controls(**options) -> pd.DataFrame:
    table = make_predictions(**{"plates": PLATES, **options})
    dmso = table["Metadata_JCP2022"] == "JCP_DMSO"
    return table.assign(Metadata_pert_type=np.where(dmso, "negcon", "trt"), Quality_ok=True)


def called(table: pd.DataFrame) -> list[tuple]:
    """Compound, plate, well and call of each treated well."""
    logits = list(table.filter(regex="^Logit_"))
    table = table[(table["Metadata_pert_type"] != "negcon") & table["Quality_ok"]]
    keys = ["Metadata_JCP2022", "Metadata_Plate", "Metadata_Well"]
    return [(*key, rows[logits].astype(float).mean().argmax()) for key, rows in table.groupby(keys)]


def plain_information(wells: list[tuple], classes: int) -> float:
    """Mutual information of the calls of replicates on different plates, by a loop over their pairs."""
    tables = {}
    for (one, plate, _, call), (two, other, _, answer) in itertools.permutations(wells, 2):
        if one == two and plate != other:
            tables.setdefault(one, np.zeros((classes, classes)))[call, answer] += 1
    joint = np.mean([table / table.sum() for table in tables.values()], axis=0)
    total = 0.0
    for k, m in itertools.product(range(classes), repeat=2):
        if joint[k, m] > 0:
            total += joint[k, m] * np.log(joint[k, m] / (joint[k].sum() * joint[:, m].sum()))
    return total


def plainly(table: pd.DataFrame) -> tuple[float, float]:
    """Observed agreement and chance, by a loop over all pairs of wells."""
    wells = called(table)
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
    assert found.kappa == pytest.approx((observed - chance) / (1 - chance), abs=1e-12)
    assert found.compounds == 11
    assert 0.2 < found.kappa < 0.9
    # Chance is drawn: here it is drawn by another generator, and by hand.
    wells, random, chances = called(table), np.random.default_rng(5), []
    for _ in range(60):
        permuted = []
        for plate in PLATES:
            here = [well for well in wells if well[1] == plate]
            calls = random.permutation([well[3] for well in here])
            permuted += [(*well[:3], call) for well, call in zip(here, calls, strict=True)]
        chances.append(plain_information(permuted, 4))
    plain = (plain_information(wells, 4) - np.mean(chances)) / np.log(4)
    assert found.information == pytest.approx(plain, abs=0.02)
    assert np.mean(chances) > 0.03  # without its correction it would have failed


def test_it_is_one_for_equal_replicates_and_near_zero_for_calls_by_chance():
    found = replicate_agreement(with_controls(skill=50.0))
    assert found.kappa == 1 and 0.8 < found.information <= 1
    found = [replicate_agreement(with_controls(seed=seed, skill=0.0)) for seed in range(40)]
    assert abs(np.mean([each.kappa for each in found])) < 0.05
    assert abs(np.mean([each.information for each in found])) < 0.02


def test_telling_two_groups_apart_on_every_plate_is_less_than_telling_four_with_some_faults():
    fine = with_controls(skill=2.0)
    coarse = with_controls(skill=50.0)
    for name, other in (("Logit_moa 1", "Logit_moa 0"), ("Logit_moa 3", "Logit_moa 2")):
        coarse[other] = coarse[[name, other]].max(axis=1)
        coarse[name] = -99.0
    one, two = replicate_agreement(coarse), replicate_agreement(fine)
    assert one.kappa == 1 > two.kappa and one.information < two.information


def test_calls_that_are_all_the_same_or_follow_the_plate_tell_nothing():
    table = with_controls(skill=0.0)
    same = table.assign(**{"Logit_moa 2": 99.0})
    assert replicate_agreement(same)[:2] == pytest.approx((0, 0), abs=1e-12)
    for number, plate in enumerate(PLATES):
        table.loc[table["Metadata_Plate"] == plate, f"Logit_moa {number}"] = 99.0
    found = replicate_agreement(table)
    assert found.observed == 0 and found.information == pytest.approx(0, abs=1e-9)


def test_it_looks_at_no_label_and_at_no_control():
    table = with_controls(skill=1.0)
    other = table.assign(Metadata_moa=table["Metadata_moa"].sample(frac=1, random_state=0).values)
    controls = other["Metadata_pert_type"] == "negcon"
    other.loc[controls, "Logit_moa 0"] = 99.0
    assert replicate_agreement(other) == replicate_agreement(table)


def test_one_plate_has_no_replicates():
    with pytest.raises(UserError, match="on two plates or more; take more plates"):
        replicate_agreement(with_controls(plates=("P1",)))


def test_the_joints_of_compounds_have_the_mean_that_a_loop_over_pairs_finds():
    table = with_controls(skill=1.5)
    table.loc[table["Metadata_JCP2022"] == "JCP_5", "Metadata_Plate"] = (
        "P1"  # no replicate elsewhere
    )
    joints = joints_of_compounds(table)
    assert len(joints) == 11 and joints.sum(axis=(1, 2)) == pytest.approx(1)
    assert mutual_information(joints.mean(axis=0)) == pytest.approx(
        plain_information(called(table), 4)
    )
