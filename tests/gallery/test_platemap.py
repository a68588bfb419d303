"""Platemaps under the headings of any lab: what is understood is told, what is not gets one sentence."""

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.platemap import HEADINGS, KINDS, compounds_of, read_platemap
from coda.gallery.site_index import plate_layout
from coda.logs import warned
from hypothesis import given
from hypothesis import strategies as st


def read(tmp_path, text, plate="P1"):
    (tmp_path / "map.csv").write_text(text)
    return read_platemap(tmp_path / "map.csv", plate)


def test_compounds_controls_and_empty_wells(tmp_path):
    table = read(
        tmp_path,
        "Well ID,Drug,Control type,Notes\n"
        "a1,Lapatinib (Tykerb),,x\nA02,DMSO,negative,\nB03,empty,,\nB04,,,\nB05,taxol,pos. control?,\n".replace(
            "pos. control?", "positive control"
        ),
    )
    assert table["Metadata_Well"].tolist() == ["A01", "A02", "B03", "B04", "B05"]
    assert table["Metadata_JCP2022"].fillna("").tolist() == [
        "Lapatinib (Tykerb)", "DMSO", "", "", "taxol"
    ]  # fmt: skip
    kinds = table["Metadata_pert_type"].fillna("").tolist()
    assert kinds == ["trt", "negcon", "", "", "poscon"]
    assert table["Metadata_moa"].isna().all() and table["Metadata_InChIKey"].isna().all()


def test_what_was_understood_is_told(tmp_path, capsys):
    read(tmp_path, "well,compound,volume\nA01,x,5\nA02,DMSO,5\n")
    told = capsys.readouterr().err
    assert "well from 'well', compound from 'compound'; not used: volume" in told
    assert "wells with DMSO are taken for those" in told


def test_doses_make_treatments_of_their_own(tmp_path):
    table = read(
        tmp_path,
        "well;compound;compound name;conc. [µM]\n"
        'A01;C1;"aspirin";10.0\nA02;C1;aspirin;0,5\nA03;DMSO;DMSO;0,1\nA04;C2;ibuprofen;\n',
    )
    assert table["Metadata_JCP2022"].tolist() == ["C1 @ 10", "C1 @ 0.5", "DMSO", "C2"]
    assert table["Metadata_pert_iname"].tolist() == ["aspirin", "aspirin", "DMSO", "ibuprofen"]
    assert table["Metadata_pert_type"].tolist() == ["trt", "trt", "negcon", "trt"]


def test_rows_and_columns_make_wells_and_plates_part_rows(tmp_path):
    text = "Plate,Row,Column,Compound\n0012,1,1,a\n0012,B,12,DMSO\n0013,27,48,b\n"
    assert read(tmp_path, text, "0012")["Metadata_Well"].tolist() == ["A01", "B12"]
    assert read(tmp_path, text, "13")["Metadata_Well"].tolist() == ["AA48"]
    with pytest.raises(UserError, match="not clear which rows are those of P7"):
        read(tmp_path, text, "P7")


def test_marks_of_negative_controls(tmp_path):
    table = read(tmp_path, "well,compound,negative control\nA01,water,yes\nA02,x,No\nA03,y,\n")
    assert table["Metadata_pert_type"].tolist() == ["negcon", "trt", "trt"]
    with pytest.raises(UserError, match="says 'perhaps' where it marks negative controls"):
        read(tmp_path, "well,compound,negcon\nA01,water,perhaps\n")


def test_a_plate_without_controls_is_told_what_it_cannot_have(tmp_path):
    with warned() as messages:
        read(tmp_path, "well,compound\nA01,x\n")
    (told,) = messages
    assert "marks no negative control on P1" in told and "no alignment by controls" in told


def test_ids_of_jump_count_as_names(tmp_path):
    table = read(
        tmp_path,
        "Metadata_Well,Metadata_JCP2022\nA01,JCP2022_033924\nA02,JCP2022_999999\nA03,JCP2022_000001\n",
    )
    assert table["Metadata_pert_type"].fillna("").tolist() == ["negcon", "", "trt"]
    assert table["Metadata_JCP2022"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("well,dose\nA01,1\n", "lacks a column compound; it has well, dose"),
        ("position,dose\nA01,1\n", r"lacks a column well \(or row and column\) and one compound"),
        ("well,drug,treatment\nA01,a,b\n", "two columns that can be its compound: drug and treatm"),
        ("well,compound\nA01,a\nA01,b\n", "names well A01 2 times, with a, b"),
        ("well,compound\nA01,a\nZ99X,b\n", "Row 2 of .*map.csv has the well 'Z99X'"),
        ("well,compound\nA01,a\n,b\n", "Row 2 of .*map.csv has no well"),
        ("well,compound,control\nA01,a,yes\n", "marks a well as 'yes'"),
        ("row,column,compound\n,1,a\n", "a row of wells without its row or column"),
        (
            "well,compound,role\nA01,a,negcon\nA02,a,trt\n",
            r"gives a several pert_type \(negcon, trt\)",
        ),
        ("well,compound\n", "has no well of the plate P1"),
    ],
)
def test_bad_platemaps_get_one_sentence(tmp_path, text, word):
    with pytest.raises(UserError, match=word) as told:
        read(tmp_path, text)
    assert "map.csv" in str(told.value)


WELLS = [f"{row}{column:02d}" for row in "ABCH" for column in (1, 2, 12)]
NAMES = st.text(
    st.characters(categories=["L", "N"], include_characters=" -+()'%/,;"), min_size=1, max_size=12
).filter(lambda name: name[0].isalpha() and name == name.strip())


@given(
    wells=st.lists(st.sampled_from(WELLS), min_size=1, max_size=8, unique=True),
    names=st.lists(NAMES, min_size=8, max_size=8),
    kinds=st.lists(st.sampled_from(["trt", "poscon"]), min_size=8, max_size=8),
    heading=st.sampled_from(HEADINGS["well"]),
    compound=st.sampled_from([*HEADINGS["compound"], *HEADINGS["name"]]),
    suffix=st.sampled_from([".csv", ".tsv", ".parquet"]),
)
def test_any_compound_name_comes_back(wells, names, kinds, heading, compound, suffix):
    """Whatever the file's format: the same names in the same wells, marked as they were marked."""
    rows = pd.DataFrame(
        {
            heading.upper(): wells,
            compound: [f"x{number} {names[number]}" for number in range(len(wells))],
            "Role": [KINDS[kind][0] for kind in kinds[: len(wells)]],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"map{suffix}"
        if suffix == ".parquet":
            rows.to_parquet(path)
        else:
            rows.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
        table = read_platemap(path, "P1")
    assert table["Metadata_Well"].tolist() == wells
    assert table["Metadata_JCP2022"].tolist() == rows[compound].tolist()
    assert table["Metadata_pert_type"].tolist() == kinds[: len(wells)]
    layout = plate_layout(
        table.assign(Metadata_Source="s", Metadata_Plate="P1"), compounds_of(table), "s", "P1"
    )
    assert layout["Metadata_pert_iname"].tolist() == rows[compound].tolist()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0", "10", True), ("1e1", "10", True), ('"0,5"', "0.5", True), ("1.", "1", True),
        ("1.0000001", "1", False), ("1234567", "1234568", False), ('"1,000"', "1", False), ("1e400", "2e400", False),
        ("1_0", "10", False), ("٣", "3", False),
    ],
)  # fmt: skip
def test_doses_are_one_only_where_they_are_the_same_number(tmp_path, one, other, same):
    table = read(tmp_path, f"well,compound,dose\nA01,x,{one}\nA02,x,{other}\nA03,DMSO,\n")
    assert (table["Metadata_JCP2022"].nunique() == 2) == same


def test_a_row_of_wells_is_a_letter_or_a_plain_number(tmp_path):
    with pytest.raises(UserError, match="the well '²1'"):
        read(tmp_path, "row,column,compound\n²,1,x\n")
