"""Classes that the training plates lack are found when plates are chosen, against sets."""

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.plates import WELL_COLUMNS, read_training_wells
from coda.gallery.site_index import COMPOUND_COLUMNS
from coda.gallery.training_classes import check_training_classes
from hypothesis import given
from hypothesis import strategies as st

COMPOUNDS = pd.DataFrame(
    [(f"JCP{number}", f"moa {number // 2}", "trt") for number in range(6)]
    + [("JCP_DMSO", None, "negcon")],
    columns=["Metadata_JCP2022", "Metadata_moa", "Metadata_pert_type"],
).reindex(columns=["Metadata_JCP2022", *COMPOUND_COLUMNS])
ALL = {"wells": None, "compounds": None, "moas": None, "labelled": False}
PLATES = pd.DataFrame(
    [("lab", "P1", "train"), ("lab", "P2", "train"), ("lab", "P3", "validation")],
    columns=["Metadata_Source", "Metadata_Plate", "subset"],
)


def wells_of(*plates):
    rows = [
        ("lab", f"P{number + 1}", f"A{place + 1:02d}", jcp)
        for number, jcps in enumerate(plates)
        for place, jcp in enumerate(jcps)
    ]
    return pd.DataFrame(rows, columns=WELL_COLUMNS)


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=3, max_size=3),
    st.sets(st.integers(0, 2)),
)
def test_every_class_must_be_on_a_training_plate(layouts, chosen):
    wells = wells_of(*([f"JCP{number}" for number in layout] for layout in layouts))
    wanted = chosen or {0, 1, 2}
    choose = ALL | {"moas": [f"moa {number}" for number in chosen] or None}
    found = {number // 2 for layout in layouts[:2] for number in layout} & wanted
    if found == wanted and len(found) > 1:
        check_training_classes(PLATES, wells, COMPOUNDS, choose, ["lab"])
    else:
        with pytest.raises(UserError, match="training plates of lab"):
            check_training_classes(PLATES, wells, COMPOUNDS, choose, ["lab"])


def test_the_classes_and_the_way_out_are_named():
    wells = wells_of(["JCP0", "JCP2"], ["JCP_DMSO"], ["JCP4"])
    with pytest.raises(
        UserError, match=r"lab have no well of 1 of 3 classes \(moa 2\); .*choose\.moas"
    ):
        check_training_classes(PLATES, wells, COMPOUNDS, ALL, ["lab"])


def test_crops_that_were_cut_elsewhere_need_no_layout():
    assert check_training_classes(PLATES, wells_of([], [], []), COMPOUNDS, ALL, []).empty


def test_chosen_wells_leave_the_classes_that_they_hold_but_at_least_two():
    wells = wells_of(["JCP0", "JCP2", "JCP4"], [], [])
    two = ALL | {"wells": ["A01", "A02"]}
    table = check_training_classes(PLATES, wells, COMPOUNDS, two, ["lab"])
    assert table.to_numpy().tolist() == [["lab", "moa 0", 1, 1], ["lab", "moa 1", 1, 1]]
    with pytest.raises(UserError, match="leaves 1 class"):
        check_training_classes(PLATES, wells, COMPOUNDS, ALL | {"wells": ["A01"]}, ["lab"])


def test_wells_come_from_the_table_and_from_layouts_of_ones_own(tmp_path):
    wells_of(["JCP0"], ["JCP1"], ["JCP2"]).to_parquet(tmp_path / "well.parquet")
    (tmp_path / "mine.csv").write_text("Metadata_Well,Metadata_JCP2022\nB07,JCP5\n")
    found = read_training_wells(tmp_path / "well.parquet", PLATES, ["lab"])
    assert found.to_numpy().tolist() == [["lab", "P1", "A01", "JCP0"], ["lab", "P2", "A01", "JCP1"]]
    own = PLATES.assign(layout=[None, str(tmp_path / "mine.csv"), None])
    found = read_training_wells(tmp_path / "well.parquet", own, ["lab"])
    assert found.to_numpy().tolist() == [["lab", "P1", "A01", "JCP0"], ["lab", "P2", "B07", "JCP5"]]
