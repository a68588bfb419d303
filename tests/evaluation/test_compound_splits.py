"""Which compounds a step may see, and that it sees no other."""

import numpy as np
import pandas as pd
import pytest
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.compound_splits import choose_compounds, choose_mechanisms
from coda.files import parse_table, read_table, write_table
from coda.gallery.labels import label_compounds
from coda.training.site_selection import class_names, labelled_rows, restrict, usable_rows
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=8)
SHARES = st.floats(0.01, 0.99)


def labelled_compounds(sizes):
    """One row a compound, `sizes` compounds a mechanism, every one a skeleton of its own."""
    rows = [
        (f"JCP_{moa}_{number}", f"{'ABCDEFGHI'[moa] * 12}{number:02d}-UH-N", f"drug {moa}/{number}", f"moa {moa}")
        for moa, size in enumerate(sizes)
        for number in range(size)
    ]  # fmt: skip
    names = ["JCP2022", "InChIKey", "pert_iname", "moa"]
    return pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in names]).assign(fit=True)


@settings(max_examples=40)
@given(SIZES, SHARES, st.integers(0, 99), st.randoms())
def test_every_mechanism_has_compounds_on_both_sides(sizes, share, seed, random):
    compounds = labelled_compounds(sizes)
    if max(sizes) < 2:
        with pytest.raises(UserError):
            choose_compounds(compounds, share, seed)
        return
    choice = choose_compounds(compounds, share, seed)
    assert sorted(choice["Metadata_JCP2022"]) == sorted(compounds["Metadata_JCP2022"])
    for (_, roles), size in zip(choice.groupby("Metadata_moa")["role"], sizes, strict=True):
        counts = roles.value_counts()
        if size == 1:
            assert set(counts.index) == {"left_out"}
        else:
            assert set(counts.index) == {"used", "kept_out"}
            assert counts["used"] == np.clip(np.floor(share * size + 0.5), 1, size - 1)
    shuffled = compounds.sample(frac=1, random_state=random.randrange(2**31))
    pd.testing.assert_frame_equal(choose_compounds(shuffled, share, seed), choice)


@settings(max_examples=40)
@given(SIZES, SHARES, st.integers(0, 99))
def test_another_mechanism_changes_no_choice(sizes, share, seed):
    if max(sizes) > 1:
        fewer = choose_compounds(labelled_compounds(sizes), share, seed)
        more = choose_compounds(labelled_compounds([*sizes, 3]), share, seed)
        pd.testing.assert_frame_equal(fewer, more[: len(fewer)])


def test_a_compound_without_a_good_site_is_neither_learned_nor_tested():
    """Chosen by chance alone it could be a mechanism's only one, whose class then nothing would teach."""
    compounds = labelled_compounds([2, 4, 3])
    compounds.loc[[0, 3, 4], "fit"] = False
    for seed in range(10):
        role = choose_compounds(compounds, 0.5, seed)["role"]
        assert role[[0, 1, 3, 4]].eq("left_out").all()
        assert all(set(role[rows]) == {"used", "kept_out"} for rows in ([2, 5], [6, 7, 8]))


def test_seeds_choose_differently():
    compounds = labelled_compounds([4] * 8)
    roles = {tuple(choose_compounds(compounds, 0.5, seed)["role"]) for seed in range(10)}
    assert len(roles) == 10


def test_names_and_skeletons_of_one_compound_stay_together():
    compounds = labelled_compounds([6])
    compounds.loc[1, "Metadata_InChIKey"] = compounds.loc[0, "Metadata_InChIKey"][:14] + "-XX-N"
    compounds.loc[2, "Metadata_pert_iname"] = (
        "Drug 0/1|other name"  # one name with 1, so with 0 too
    )
    compounds.loc[3, "Metadata_InChIKey"] = None
    for seed in range(20):
        role = choose_compounds(compounds, 0.5, seed)["role"]
        assert role[0] == role[1] == role[2]
        assert role.value_counts().to_dict() in (
            {"used": 4, "kept_out": 2},
            {"used": 2, "kept_out": 4},
        )


def test_half_of_the_mechanisms_with_all_their_compounds():
    choice = choose_mechanisms(labelled_compounds([2, 3, 1, 2, 4]), 3)
    by_moa = choice.groupby("Metadata_moa")["role"].agg(set)
    assert by_moa.map(len).eq(1).all() and sum(roles == {"used"} for roles in by_moa) == 2
    assert choose_mechanisms(labelled_compounds([2]), 0)["role"].eq("used").all()


def test_jumps_compounds_can_all_be_split(reference):
    tables = reference / "metadata"
    layout = read_table(tables / "target2_layout_well_jcp_inchikey.csv")
    table = label_compounds(
        layout[["Metadata_JCP2022", "Metadata_InChIKey"]].drop_duplicates(),
        read_table(tables / "JUMP-Target-2_compound_platemap.tsv"),
        read_table(tables / "JUMP-Target-2_compound_metadata.tsv"),
        parse_table((tables / "repurposing_drugs_20200324.txt").read_bytes(), "drugs.txt"),
    )
    labelled = table[table["Metadata_moa"].notna()]
    choice = choose_compounds(labelled.assign(fit=True), 0.5, 1)
    roles = choice.groupby("Metadata_moa")["role"].agg(set)
    assert len(roles) == 54
    assert all(each == {"used", "kept_out"} for each in roles)


def choice_file(folder, table, hidden):
    compounds = table.dropna(subset="Metadata_moa").drop_duplicates("Metadata_JCP2022")
    role = np.where(compounds["Metadata_JCP2022"].isin(hidden), "kept_out", "used")
    path = folder / "choice.csv"
    write_table(compounds[["Metadata_JCP2022", "Metadata_moa"]].assign(role=role), path)
    return str(path)


def test_no_step_sees_a_compound_that_is_kept_out(tiny_plates, tmp_path):
    store, whole = CropStore(tiny_plates), CropStore(tiny_plates)
    hidden = {"JCP2022_000001", "JCP2022_000004"}
    restrict(store, choice_file(tmp_path, store.table, hidden))
    classes = class_names([store.table])
    rows = [
        labelled_rows(store.table, classes)[0],
        usable_rows(store.table, "labelled"),
        usable_rows(store.table, "all"),
    ]
    for seen in rows:
        assert not set(whole.table["Metadata_JCP2022"].iloc[seen]) & hidden
        assert whole.table["Quality_ok"].iloc[seen].all()
    # All others stay, the negative controls among them.
    kept = whole.table["Quality_ok"] & ~whole.table["Metadata_JCP2022"].isin(hidden)
    np.testing.assert_array_equal(rows[2], np.flatnonzero(kept))
    assert (store.table["Metadata_pert_type"].iloc[rows[2]] == "negcon").any()


def test_without_a_choice_nothing_changes(tiny_plates):
    store = CropStore(tiny_plates)
    before = store.table.copy()
    restrict(store, None)
    pd.testing.assert_frame_equal(store.table, before)
