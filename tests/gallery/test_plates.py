"""Plates are chosen as the config says, and every wish that cannot be met is named."""

from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import read_table, write_table
from coda.gallery.plates import (
    PLATE_COLUMNS,
    WELL_COLUMNS,
    add_own_plates,
    read_sample_sheet,
    read_wells,
    select_plates,
)

SHARED = Path("../shared/data/metadata/plate.csv.gz")


@pytest.fixture
def plates():
    rows = [
        ("source_2", "Batch_2", "1053597806", "TARGET2"),
        ("source_2", "Batch_1", "1053597807", "TARGET2"),
        ("source_2", "Batch_1", "1053597808", "COMPOUND"),
        ("source_3", "CP59", "BR5867a3", "TARGET2"),
        ("source_3", "CP60", "JCPQC016", "TARGET2"),
    ]
    return pd.DataFrame(rows, columns=PLATE_COLUMNS)


def test_all_plates_of_the_type_in_order(plates):
    table = select_plates(
        plates, "TARGET2", {"source_3": {"validation_plate": "JCPQC016"}, "source_2": None}
    )
    assert table["Metadata_Plate"].tolist() == ["BR5867a3", "JCPQC016", "1053597807", "1053597806"]
    assert table["subset"].tolist() == ["train", "validation", "train", "train"]
    assert list(table) == [*PLATE_COLUMNS, "subset"]


def test_named_plates_and_ids_that_yaml_reads_as_numbers(plates):
    wish = {"source_2": {"plates": [1053597807], "validation_plate": 1053597806}}
    table = select_plates(plates, "TARGET2", wish)
    assert dict(zip(table["Metadata_Plate"], table["subset"], strict=True)) == {
        "1053597807": "train",
        "1053597806": "validation",
    }


def test_batches_are_chosen_and_the_validation_plate_may_be_of_another(plates):
    def chosen(**wish):
        table = select_plates(plates, "TARGET2", {"source_2": {"validation_plate": None} | wish})
        return table["Metadata_Plate"].tolist()

    assert chosen(batches=["Batch_1"]) == ["1053597807"]
    assert chosen(batches=["Batch_2", "Batch_1"]) == chosen(batches=[]) == chosen()
    both = chosen(batches=["Batch_1"], validation_plate="1053597806")
    assert both == ["1053597807", "1053597806"]
    assert chosen(batches=["Batch_1"], plates=["1053597807"]) == ["1053597807"]
    with pytest.raises(UserError, match=r"batches names Batch1, .*did you mean Batch_1"):
        chosen(batches=["Batch_2", "Batch1"])
    with pytest.raises(
        UserError, match=r"plates names 1053597806 of the batch Batch_2, which sources\.source_2\.b"
    ):
        chosen(batches=["Batch_1"], plates=["1053597806", "1053597807"])
    with pytest.raises(UserError, match="no TARGET2 plate left to train on"):
        chosen(batches=["Batch_2"], validation_plate="1053597806")


def test_a_plate_in_two_batches_is_refused_until_one_is_chosen(plates):
    """Unless both rows are the same, or of another type."""
    again = plates[:1].assign(Metadata_Batch="Batch_9")
    twice = pd.concat([plates, again])
    with pytest.raises(
        UserError, match=r"1053597806 is in 2 batches \(Batch_2, Batch_9\); name the right"
    ):
        select_plates(twice, "TARGET2", {"source_2": {}})
    for wish in ({}, {"validation_plate": "1053597806"}, {"plates": ["1053597806", "1053597807"]}):
        wish = {"source_2": wish | {"batches": ["Batch_9", "Batch_1"]}}
        table = select_plates(twice, "TARGET2", wish).set_index("Metadata_Plate")
        assert table.loc["1053597806", "Metadata_Batch"] == "Batch_9" and len(table) == 2
    for more in (plates[:1], again.assign(Metadata_PlateType="COMPOUND")):
        table = select_plates(pd.concat([more, plates, more]), "TARGET2", {"source_2": {}})
        assert table["Metadata_Batch"].tolist() == ["Batch_1", "Batch_2"]


def test_a_sheet_replaces_the_rows_of_its_plates_and_no_others(plates):
    again = pd.concat([plates, plates[:1].assign(Metadata_Batch="Batch_9")])
    sheet = plates[3:4].assign(Metadata_Batch="mine", root="plates")
    both = add_own_plates(again, sheet)
    assert both["Metadata_Batch"].tolist() == [
        "Batch_2",
        "Batch_1",
        "Batch_1",
        "CP60",
        "Batch_9",
        "mine",
    ]


def test_excluded_plates_are_left_out(plates):
    table = select_plates(plates, "TARGET2", {"source_2": {}}, exclude=[1053597806])
    assert table["Metadata_Plate"].tolist() == ["1053597807"]


@pytest.mark.parametrize(
    ("sources", "exclude", "words"),
    [
        ({}, [], ["sources is empty"]),
        ({"source_33": {}}, [], ["source_33", "did you mean source_3"]),
        (
            {"source_3": {"validation_plate": "JCPQC061"}},
            [],
            ["sources.source_3.validation_plate", "JCPQC061", "did you mean JCPQC016"],
        ),
        ({"source_3": {"validation_plate": "1053597806"}}, [], ["no plate of this source"]),
        ({"source_2": {"validation_plate": "1053597808"}}, [], ["COMPOUND", "TARGET2"]),
        ({"source_2": {"plates": ["1053597808"]}}, [], ["sources.source_2.plates", "COMPOUND"]),
        ({"source_3": {"plates": ["none"]}}, [], ["sources.source_3.plates"]),
        ({"source_3": {"validation_plate": "JCPQC016"}}, ["BR5867a3"], ["left to train on"]),
        ({"source_3": {"plates": ["JCPQC016"], "validation_plate": "JCPQC016"}}, [], ["left to"]),
        (
            {"source_3": {"validation_plate": "JCPQC016"}},
            ["JCPQC016"],
            ["exclude_plates leaves out"],
        ),
        ({"source_3": {}}, ["JCPQC017"], ["exclude_plates names", "did you mean JCPQC016"]),
    ],
)
def test_wishes_that_cannot_be_met_are_named(plates, sources, exclude, words):
    with pytest.raises(UserError) as told:
        select_plates(plates, "TARGET2", sources, exclude)
    assert all(word in str(told.value) for word in words)
    assert str(told.value)[-2:] not in ("?.", "..") and str(told.value)[-1] in "?."


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a b", "", "-x", "a\nb", None])
def test_ids_that_cannot_be_part_of_a_path_are_refused(plates, name):
    plates.loc[3, "Metadata_Batch"] = name
    with pytest.raises(UserError, match="tables.plate"):
        select_plates(plates, "TARGET2", {"source_3": {}})


@pytest.fixture(scope="module")
def real():
    if not SHARED.exists():
        pytest.skip(f"the public table {SHARED} is not here")
    return read_table(SHARED)


def test_real_target_2_plates(real):
    sources = {f"source_{n}": {} for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)}
    table = select_plates(real, "TARGET2", sources)
    counts = table.groupby("Metadata_Source")["Metadata_Plate"].count().to_dict()
    assert counts == {
        "source_2": 10,
        "source_3": 25,
        "source_4": 22,
        "source_5": 24,
        "source_6": 21,
        "source_7": 7,
        "source_8": 4,
        "source_9": 9,
        "source_10": 6,
        "source_11": 7,
        "source_13": 6,
    }
    assert len(table) == 141 and table["Metadata_Plate"].is_unique
    everywhere = set(real["Metadata_Source"][real["Metadata_PlateType"] == "TARGET2"])
    assert everywhere == set(sources)


def test_real_plates_of_the_paper(real):
    sources = {
        "source_3": {"validation_plate": "JCPQC016", "plates": None},
        "source_5": {"validation_plate": "ACPJUM012", "plates": None},
        "source_8": {"validation_plate": "A1166127", "plates": None},
        "source_11": {"validation_plate": "EC103-132LM2", "plates": None},
    }
    table = select_plates(real, "TARGET2", sources)
    both = table.groupby("Metadata_Source", sort=False).agg(
        plates=("Metadata_Plate", "count"), batches=("Metadata_Batch", "nunique")
    )
    assert both["plates"].to_dict() == {
        "source_3": 25,
        "source_5": 24,
        "source_8": 4,
        "source_11": 7,
    }
    assert both["batches"].tolist() == [13, 23, 4, 4]
    held = table[table["subset"] == "validation"]
    assert held["Metadata_Plate"].tolist() == [
        wish["validation_plate"] for wish in sources.values()
    ]


def test_no_source_without_target_2_plates(real):
    with pytest.raises(UserError, match="source_1 has no TARGET2 plate"):
        select_plates(real, "TARGET2", {"source_1": {}})


def test_sample_sheet(tmp_path):
    layout = tmp_path / "layout.csv"
    write_table(
        pd.DataFrame({"Metadata_Well": ["A01"], "Metadata_JCP2022": ["JCP2022_033924"]}), layout
    )
    sheet = tmp_path / "plates.csv"
    sheet.write_text(
        "Metadata_Source,Metadata_Batch,Metadata_Plate,root,layout\n"
        f"my_lab,2026_01,0042,/data/mine,{layout}\n"
        "my_lab,2026_01,0043,,\n"
    )
    table = read_sample_sheet(sheet, "TARGET2")
    assert table["Metadata_Plate"].tolist() == ["0042", "0043"]
    assert table["Metadata_PlateType"].tolist() == ["TARGET2"] * 2
    assert table["root"].isna().tolist() == [False, True] and table["load_data"].isna().all()
    assert read_wells("no table", "my_lab", "0042", layout).to_numpy().tolist() == [
        ["my_lab", "0042", "A01", "JCP2022_033924"]
    ]
    chosen = select_plates(table, "TARGET2", {"my_lab": {"validation_plate": "0043"}})
    assert chosen["subset"].tolist() == ["train", "validation"]


def test_a_short_sheet_has_one_batch_and_may_hold_notes(tmp_path, capsys):
    sheet = tmp_path / "plates.csv"
    sheet.write_text("source,plate,platemap,operator\nmy_lab,0042,map.csv,Ada\n")
    table = read_sample_sheet(sheet, "TARGET2")
    assert table[PLATE_COLUMNS[:3]].to_numpy().tolist() == [["my_lab", "batch_1", "0042"]]
    assert table["platemap"].tolist() == ["map.csv"] and "operator" not in table
    assert "not used: operator" in capsys.readouterr().err


def test_own_plates_stand_beside_jumps_and_before_them(plates):
    own = pd.DataFrame(
        [
            ("source_3", "CP60", "JCPQC016", "TARGET2", "/mine"),
            ("my_lab", "1", "0042", "TARGET2", None),
        ],
        columns=[*PLATE_COLUMNS, "root"],
    )
    both = add_own_plates(plates, own).set_index(["Metadata_Source", "Metadata_Plate"])
    assert len(both) == len(plates) + 1
    assert both.loc[("source_3", "JCPQC016"), "root"] == "/mine"
    assert both.loc[("source_3", "BR5867a3"), "root"] != "/mine"
    assert set(both.loc["my_lab"].index) == {"0042"}


def test_of_all_wells_only_a_plates_are_read(tmp_path):
    rows = [
        ("source_2", "P1", "A01", "JCP2022_000001"),
        ("source_2", "P2", "A01", "JCP2022_000002"),
        ("source_3", "P1", "A02", "JCP2022_000003"),
        ("source_2", "P1", "B01", "JCP2022_000004"),
    ]
    write_table(pd.DataFrame(rows, columns=WELL_COLUMNS), tmp_path / "well.parquet")
    wells = read_wells(tmp_path / "well.parquet", "source_2", "P1")
    assert wells.to_numpy().tolist() == [list(rows[0]), list(rows[3])]
    assert read_wells(tmp_path / "well.parquet", "source_2", "P9").empty


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Metadata_Source,Metadata_Batch\na,b\n", "Metadata_Plate"),
        ("source,plate,platmap\na,b,c\n", "unknown column platmap; did you mean platemap"),
        ("source,plate,layout,platemap\na,b,c,d\n", "b both a layout and a value of platemap"),
        (
            "source,plate,plane\na,b,1\n",
            "says which plane of b to take, but neither images nor a patt",
        ),
        ("source,plate,load_data,pattern\na,b,c,d\n", "both a load_data and a value of pattern"),
        ("Metadata_Source,Metadata_Batch,Metadata_Plate\na,b,\n", "no id"),
        ("Metadata_Source,Metadata_Batch,Metadata_Plate\na,b,../c\n", "no id"),
        ("Metadata_Source,Metadata_Batch,Metadata_Plate\na,b,c\na,d,c\n", "plate c twice"),
    ],
)
def test_bad_sample_sheets_are_named(tmp_path, text, word):
    sheet = tmp_path / "plates.csv"
    sheet.write_text(text)
    with pytest.raises(UserError, match=word) as told:
        read_sample_sheet(sheet, "TARGET2")
    assert str(sheet) in str(told.value)


def test_an_id_that_yaml_reads_as_octal_is_told():
    plates = pd.DataFrame(
        [("lab", "b", plate, "TARGET2") for plate in ("0041", "0042")], columns=PLATE_COLUMNS
    )
    with pytest.raises(
        UserError, match=r"names 33, .*; YAML reads 0041 as 33, so put it in quotes"
    ):
        select_plates(plates, "TARGET2", {"lab": {"validation_plate": 0o41}})
    with pytest.raises(UserError, match="exclude_plates names 34, .*YAML reads 0042 as 34"):
        select_plates(plates, "TARGET2", {"lab": {"validation_plate": "0041"}}, [0o42])


def test_plates_that_differ_in_case_alone_are_refused():
    """On disks that do not tell cases apart, one would overwrite the other's results."""
    plates = pd.DataFrame(
        [("lab", "b", "exp1a", "T"), ("lab", "b", "exp1A", "T"), ("other", "b", "EXP1A", "T")],
        columns=PLATE_COLUMNS,
    )
    with pytest.raises(UserError, match="exp1A and exp1a of lab differ in case alone"):
        select_plates(plates, "T", {"lab": {}, "other": {}})
    assert len(select_plates(plates, "T", {"lab": {}, "other": {}}, ["exp1a"])) == 2
