import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.training_classes import expected_classes
from coda.training.site_selection import (
    check_classes,
    class_names,
    labelled_rows,
    usable_rows,
)

TABLE = pd.DataFrame(
    {
        "Metadata_JCP2022": ["c1", "c2", "dmso", None, "c1"],
        "Metadata_pert_type": ["trt", "trt", "negcon", None, "trt"],
        "Metadata_moa": ["b", None, None, None, "a"],
        "Quality_ok": [True, True, True, True, False],
    }
)


@pytest.mark.parametrize(
    ("wells", "rows"), [("labelled", [0]), ("treated", [0, 1]), ("all", [0, 1, 2, 3])]
)
def test_wells_and_quality_choose_the_rows(wells, rows):
    assert usable_rows(TABLE, wells).tolist() == rows


def test_flagged_rows_count_where_there_is_no_quality():
    assert usable_rows(TABLE.drop(columns="Quality_ok"), "labelled").tolist() == [0, 4]


def test_nothing_left_is_told():
    with pytest.raises(UserError, match="data.wells"):
        usable_rows(TABLE.iloc[1:], "labelled")
    with pytest.raises(UserError, match="data.wells"):
        usable_rows(TABLE, "some")


def test_classes_are_sorted_and_numbered():
    other = pd.DataFrame({"Metadata_moa": ["c", None]})
    assert class_names([TABLE, other]) == ["a", "b", "c"]
    rows, numbers = labelled_rows(TABLE.drop(columns="Quality_ok"), ["a", "b"])
    assert rows.tolist() == [0, 4] and numbers.tolist() == [1, 0]
    rows, numbers = labelled_rows(TABLE, ["a", "b"])
    assert rows.tolist() == [0]


def test_classes_unknown_to_the_training_source_are_left_out():
    rows, _ = labelled_rows(TABLE.drop(columns="Quality_ok"), ["a"])
    assert rows.tolist() == [4]


def test_classes_to_expect_are_those_that_the_choice_keeps():
    compounds = pd.DataFrame({"Metadata_moa": ["b", None, "a", "b"]})
    choice = {"wells": None, "compounds": None, "moas": None}
    assert expected_classes(compounds, choice) == ["a", "b"]
    assert expected_classes(compounds, choice | {"moas": ["b", "c"]}) == ["b"]
    assert expected_classes(compounds, choice | {"wells": ["A01"]}) == []
    assert expected_classes(compounds, choice | {"compounds": ["x"]}) == []


def test_a_class_with_flagged_sites_alone_is_named():
    table = pd.DataFrame(
        {
            "Metadata_moa": ["a", "b", None],
            "Metadata_Source": "s",
            "Quality_ok": [True, False, True],
        }
    )
    with pytest.raises(
        UserError, match=r"of s have no site of good quality of 1 of 2 classes \(b\)"
    ):
        check_classes(table, ["a"])
    table["Quality_ok"] = True
    check_classes(table, ["a"])
