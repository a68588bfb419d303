"""Calls on predictions whose right answers are known, and what tells how far to believe them."""

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.well_profiles import well_profiles
from coda.predict.calls import (
    NOTHING_FITS,
    NOTHING_SEEN,
    TOO_MANY_FIT,
    call_mechanisms,
)
from coda.predict.novelty import activity
from coda.predict.trust import trust

MOAS = ["alpha", "beta", "gamma"]
DIRECTIONS = np.eye(6)[:3]
CONTROL = np.eye(6)[3]


def predictions(
    random, source, plates=("P1", "P2"), compounds=6, noise=0.2, sure=4.0, shift=0.0, labels=True
):
    """Sites of compounds, two a mechanism, and of negative controls."""
    rows = []
    for plate in plates:
        for number in range(compounds + 2):
            control = number >= compounds
            moa = None if control else number % 3
            for site in (1, 2):
                logits = random.normal(0, noise, 3) + (0 if control else sure * np.eye(3)[moa])
                embedding = (
                    (CONTROL if control else DIRECTIONS[moa])
                    + random.normal(0, noise / 4, 6)
                    + shift
                )
                rows.append(
                    {
                        "Metadata_Source": source, "Metadata_Batch": "b", "Metadata_Plate": plate,
                        "Metadata_Well": f"A{number + 1:02d}", "Metadata_Site": site,
                        "Metadata_JCP2022": "DMSO" if control else f"{source}-{number}",
                        "Metadata_pert_iname": "DMSO" if control else f"name {number}",
                        "Metadata_pert_type": "negcon" if control else "trt",
                        "Metadata_moa": MOAS[moa] if labels and not control else None,
                        "Quality_ok": True,
                        **{f"Logit_{name}": value for name, value in zip(MOAS, logits, strict=True)},
                        "Embedding": embedding.astype(np.float32),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def quality_of(table):
    """Quality table of the sites that there are predictions of."""
    flags = table["Quality_ok"].map({True: "", False: "blurred DNA"})
    known = table.filter(regex="^Metadata_")
    return known.assign(status="ok", Quality_Flags=flags)


def called(table, calibration, compounds, coverage=0.9, quality=None):
    return call_mechanisms(
        table, calibration, compounds, coverage, quality_of(table) if quality is None else quality
    )


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def calibration(random):
    return predictions(random, "home", plates=("H1",), compounds=30)


@pytest.fixture
def compounds():
    return pd.DataFrame(
        {
            "Metadata_JCP2022": ["t0", "t1", "t2", "dmso"],
            "Metadata_pert_iname": ["drug 0", "drug 1", None, "DMSO"],
            "Metadata_moa": [*MOAS, None],
            "Embedding": [*DIRECTIONS.astype(np.float32), CONTROL.astype(np.float32)],
        }
    )


def test_clear_compounds_are_called_with_all_that_speaks_for_it(random, calibration, compounds):
    target = predictions(random, "mine", labels=False)
    calls = called(target, calibration, compounds)
    joined = calls[calls["level"] == "compound"].set_index("Metadata_JCP2022")
    assert sorted(joined.index) == [f"mine-{number}" for number in range(6)]
    for number in range(6):
        row = joined.loc[f"mine-{number}"]
        assert row["call"] == row["moa_1"] == row["set"] == MOAS[number % 3] == row["nearest_moa"]
        assert row["abstains"] == "" and row["probability_1"] > 0.9
        assert (row["wells"], row["plates"], row["sites"], row["agreement"]) == (2, 2, 4, 1.0)
        assert row["activity"] == 1.0 and 0 < row["activity_p"] <= 1
        assert row["nearest_compound"] == ("t2" if number % 3 == 2 else f"drug {number % 3}")
    wells = calls[calls["level"] == "well"]
    assert len(wells) == 16 and (wells["Metadata_pert_type"] == "negcon").sum() == 4
    listed = calls.filter(regex="^probability_").to_numpy()
    assert np.allclose(listed.sum(axis=1), 1) and (np.diff(listed, axis=1) <= 0).all()
    assert joined["probability_1"].is_monotonic_decreasing


def test_labels_of_the_target_are_not_looked_at(random, calibration, compounds):
    target = predictions(random, "mine")
    wrong = target.assign(Metadata_moa=target["Metadata_moa"].sample(frac=1, random_state=1).values)
    one, other = (called(table, calibration, compounds) for table in (target, wrong))
    pd.testing.assert_frame_equal(one, other)


def test_units_that_say_nothing_abstain(random, calibration, compounds):
    unclear = predictions(random, "mine", sure=0.0, noise=0.01)
    calls = called(unclear, calibration, compounds)
    assert (calls["call"] == "").all() and set(calls["abstains"]) <= {NOTHING_FITS, TOO_MANY_FIT}
    # The higher the coverage, the larger the sets, until everything is in.
    sizes = [
        called(unclear, calibration, compounds, c)["set_size"].mean() for c in (0.5, 0.9, 0.99)
    ]
    assert sizes == sorted(sizes) and sizes[-1] == 3


def test_flagged_sites_are_counted_and_not_called(random, calibration, compounds):
    target = predictions(random, "mine")
    bad = (target["Metadata_Well"] == "A01") & (target["Metadata_Site"] == 2)
    target.loc[bad, "Quality_ok"] = False
    target.loc[bad, "Logit_gamma"] = 99.0
    calls = called(target, calibration, compounds)
    row = calls[(calls["level"] == "compound") & (calls["Metadata_JCP2022"] == "mine-0")].iloc[0]
    assert (row["sites"], row["flagged_sites"], row["call"]) == (2, 2, "alpha")


def test_wells_and_compounds_that_nothing_is_left_of_stay_and_say_so(
    random, calibration, compounds
):
    target = predictions(random, "mine")
    target["Quality_ok"] = (target["Metadata_Well"] != "A01") & target["Quality_ok"]
    quality = quality_of(target)
    lost = target["Metadata_Well"] == "A02"
    quality.loc[lost, ["status", "Quality_Flags"]] = ["missing", None]
    calls = called(target[~lost], calibration, compounds, quality=quality)
    joined = calls[calls["level"] == "compound"].set_index("Metadata_JCP2022")
    assert len(joined) == 6 and (calls["level"] == "well").sum() == 16
    counts = ["wells", "plates", "sites", "flagged_sites", "lost_sites", "flags"]
    assert joined.loc["mine-0", counts].tolist() == [0, 0, 0, 4, 0, "blurred DNA"]
    assert joined.loc["mine-1", counts].tolist() == [0, 0, 0, 0, 4, ""]
    assert joined.loc["mine-2", counts].tolist() == [2, 2, 4, 0, 0, ""]
    for name in ("mine-0", "mine-1"):
        row = joined.loc[name]
        assert (row["call"], row["abstains"], row["set"]) == ("", NOTHING_SEEN, "")
        assert row[["probability_1", "set_probability", "novelty", "activity"]].isna().all()


def test_plates_that_nothing_is_left_of_are_refused_in_a_sentence(random, calibration, compounds):
    target = predictions(random, "mine").assign(Quality_ok=False)
    with pytest.raises(UserError, match="No site of the plates has a prediction"):
        called(target, calibration, compounds)


def test_a_plate_of_controls_alone_calls_its_wells(random, calibration, compounds):
    target = predictions(random, "mine")
    calls = called(target[target["Metadata_pert_type"] == "negcon"], calibration, compounds)
    assert calls["level"].tolist() == ["well"] * 4


def test_compounds_in_one_well_have_no_activity_and_others_do(random, calibration, compounds):
    target = predictions(random, "mine")
    once = (target["Metadata_Plate"] == "P2") & (target["Metadata_JCP2022"] == "mine-0")
    calls = called(target[~once], calibration, compounds)
    found = calls[calls["level"] == "compound"].set_index("Metadata_JCP2022")["activity"]
    assert np.isnan(found["mine-0"]) and found.drop("mine-0").notna().all()


def test_the_mean_of_a_compound_is_that_of_its_wells_and_not_of_their_sites(
    random, calibration, compounds
):
    target = predictions(random, "mine", sure=0.5)
    uneven = target[(target["Metadata_Plate"] == "P1") | (target["Metadata_Site"] == 1)]
    logits = [f"Logit_{name}" for name in MOAS]
    wells = uneven.groupby(["Metadata_Plate", "Metadata_Well"])
    even = target.drop(columns=logits).merge(wells[logits].mean().reset_index())
    found, wanted = (called(table, calibration, compounds) for table in (uneven, even))
    columns = ["level", "Metadata_JCP2022", "moa_1", "probability_1", "probability_2"]
    pd.testing.assert_frame_equal(found[columns], wanted[columns])


def test_the_probability_of_a_set_is_that_of_its_members(random, calibration, compounds):
    calls = called(predictions(random, "mine", sure=1.0), calibration, compounds)
    listed = calls[[f"moa_{rank}" for rank in (1, 2, 3)]].to_numpy()
    chances = calls[[f"probability_{rank}" for rank in (1, 2, 3)]].to_numpy()
    sets = [set(text.split("; ")) for text in calls["set"]]
    sums = [
        sum(p for name, p in zip(names, row, strict=True) if name in inside)
        for names, row, inside in zip(listed, chances, sets, strict=True)
    ]
    np.testing.assert_allclose(calls["set_probability"], sums)


def test_a_step_that_needs_controls_is_not_used_where_a_plate_has_none(random, calibration):
    target = predictions(random, "mine")
    logits = [f"Logit_{name}" for name in MOAS]
    aligned = target.copy()
    aligned.loc[aligned["Metadata_Plate"] == "P2", logits] = np.nan
    tables = {
        "unadapted": target,
        "harmonised_unadapted": target,
        "harmonised_unadapted_aligned_dmso": aligned,
    }
    told = trust(tables, calibration).set_index("method")
    assert told["called_plates"].tolist() == [2, 2, 1]
    assert told["use"].tolist() == [False, True, False]
    assert "says nothing of 1 of 2 plate(s)" in told["reason"].iat[0]
    alone = trust({"unadapted": target, "harmonised_unadapted_aligned_dmso": aligned}, calibration)
    assert alone["use"].tolist() == [True, False]


def test_one_plate_without_controls_says_what_it_cannot(random, calibration, compounds):
    target = predictions(random, "mine", plates=("P1",))
    target = target[target["Metadata_pert_type"] == "trt"]
    calls = called(target, calibration, compounds)
    assert calls["agreement"].isna().all() and calls["activity"].isna().all()
    told = trust({"unadapted": target, "coda": target}, calibration)
    assert told["reason"].iat[0].startswith("Nothing on these plates tells")


def test_what_lies_far_from_all_training_compounds_is_new(random, calibration, compounds):
    target = predictions(random, "mine")
    strange = target["Metadata_JCP2022"] == "mine-0"
    target.loc[strange, "Embedding"] = pd.Series(
        [np.eye(6)[5].astype(np.float32)] * strange.sum(), index=target.index[strange]
    )
    calls = called(target, calibration, compounds)
    novelty = calls[calls["level"] == "compound"].set_index("Metadata_JCP2022")["novelty"]
    assert novelty["mine-0"] == 1.0 and novelty.drop("mine-0").max() < 1.0


def test_inactive_compounds_do_not_find_each_other(random):
    target = predictions(random, "mine", compounds=6)
    embeddings = [random.normal(size=6).astype(np.float32) for _ in range(len(target))]
    lost = activity(well_profiles(target.assign(Embedding=embeddings).drop(columns="Quality_ok")))
    found = activity(well_profiles(target.drop(columns="Quality_ok")))
    assert (found["activity"] == 1).all() and lost["activity"].mean() < 0.9


def test_trust_prefers_the_method_whose_replicates_agree(random, calibration):
    good = predictions(random, "mine")
    logits = [f"Logit_{name}" for name in MOAS]
    lost = good.copy()
    lost[logits] = random.normal(size=(len(good), 3))
    told = trust({"unadapted": lost, "coda": good}, calibration).set_index("method")
    assert told["use"].to_dict() == {"unadapted": False, "coda": True}
    assert told.loc["coda", "agreement"] > told.loc["unadapted", "agreement"]
    told = trust({"unadapted": good, "coda": lost}, calibration).set_index("method")
    assert told["use"].to_dict() == {"unadapted": True, "coda": False}
    assert "Use the calls without adaptation" in told["reason"].iat[0]


def test_trust_on_one_plate_goes_by_what_controls_are_called(random, calibration):
    near = predictions(random, "mine", plates=("P1",), shift=1.0)  # embeddings may lie elsewhere
    far = near.copy()
    far.loc[far["Metadata_pert_type"] == "negcon", "Logit_alpha"] += 4
    told = trust({"unadapted": far, "coda": near}, calibration).set_index("method")
    assert told["use"].to_dict() == {"unadapted": False, "coda": True}
    assert told.loc["unadapted", "control_distance"] > told.loc["coda", "control_distance"]
    assert told["agreement"].isna().all() and (told["control_wells"] == 2).all()
    told = trust({"unadapted": near, "coda": far}, calibration)
    assert "called less like those of the training source" in told["reason"].iat[0]


def test_controls_without_any_shift_rarely_lie_further_than_chance():
    random, beyond = np.random.default_rng(1), []
    for _ in range(60):
        lab, home = (
            predictions(random, name, plates=("P",), compounds=0, noise=1.0)
            .drop(columns="Metadata_Well")
            .merge(
                pd.DataFrame({"Metadata_Well": [f"B{number:02d}" for number in range(8)]}), "cross"
            )
            for name in ("mine", "home")
        )
        for table in (lab, home):
            logits = [f"Logit_{name}" for name in MOAS]
            table[logits] = random.normal(0, 1.0, (len(table), 3))
        told = trust({"unadapted": lab}, home)
        beyond.append(told["control_distance"].iat[0] > told["control_chance"].iat[0])
    assert 0 < np.mean(beyond) < 0.15
