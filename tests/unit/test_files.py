import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import read_table, replacing, write_json, write_table

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_a_failed_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "import os, signal\nfrom coda.files import replacing\n"
        f"with replacing({str(path)!r}) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz"])
def test_ids_stay_text(tmp_path, name):
    table = pd.DataFrame({"Metadata_Plate": ["1053597806", "0012"], "Metadata_moa": ["a", None]})
    write_table(table, tmp_path / name)
    again = read_table(tmp_path / name)
    assert list(again["Metadata_Plate"]) == ["1053597806", "0012"]
    assert again["Metadata_moa"].isna().tolist() == [False, True]


def test_text_that_looks_missing_stays_text(tmp_path):
    (tmp_path / "t.csv").write_text("name,other\nNA,null\n,nan\n")
    table = read_table(tmp_path / "t.csv")
    assert table["name"].iloc[0] == "NA" and table["other"].tolist() == ["null", "nan"]
    assert table["name"].isna().tolist() == [False, True]


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"t\.csv.*\bc\b"):
        read_table(tmp_path / "t.csv", ["a", "c"])


def test_missing_and_broken_tables_are_named(tmp_path):
    with pytest.raises(UserError, match="absent.csv"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="bad.parquet"):
        read_table(tmp_path / "bad.parquet")


def test_json_is_written_whole(tmp_path):
    write_json({"a": [1, "ä"]}, tmp_path / "x.json")
    assert (tmp_path / "x.json").read_text() == '{\n  "a": [\n    1,\n    "ä"\n  ]\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]
