"""Warnings go with the table that they are about, through its file."""

import pandas as pd
from coda.files import read_table, write_table
from coda.gallery.input_warnings import keep_warnings, warnings_of


def test_warnings_survive_the_file_with_their_plate(tmp_path):
    index = pd.DataFrame(
        {"Metadata_Source": ["lab"] * 2, "Metadata_Plate": "0041", "Metadata_Site": [1, 2]}
    )
    write_table(keep_warnings(index, ["one", "two"]), tmp_path / "index.parquet")
    table = warnings_of(read_table(tmp_path / "index.parquet"))
    assert table["message"].tolist() == ["one", "two"] and set(table["kind"]) == {"tables"}
    assert table["Metadata_Plate"].tolist() == ["0041"] * 2 and table["Metadata_Well"].isna().all()
    assert index.attrs == {}


def test_a_table_without_warnings_or_plate_has_none(tmp_path):
    write_table(pd.DataFrame({"a": ["x"]}), tmp_path / "t.parquet")
    assert warnings_of(read_table(tmp_path / "t.parquet")).empty
    table = warnings_of(keep_warnings(pd.DataFrame({"a": ["x"]}), ["labels: odd"]))
    assert table["message"].tolist() == ["labels: odd"] and table["Metadata_Plate"].isna().all()
