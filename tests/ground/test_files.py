import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import read_table, replacing, write_json, write_table
from places import SCRIPTS


def test_a_failed_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write_in_a_process(path, then):
    """Start a process that writes half a file, prints, and goes on with the line `then`."""
    code = (
        f"import os, signal, sys, time\nsys.path.insert(0, {str(SCRIPTS)!r})\n"
        f"from coda.files import replacing\nwith replacing({str(path)!r}) as temporary:\n"
        f"    temporary.write_text('half')\n    print('begun', flush=True)\n    {then}\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def kill_a_writer(path):
    child = write_in_a_process(path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_clears_up(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    kill_a_writer(path)
    assert path.read_text() == "old" and len(os.listdir(tmp_path)) == 2
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["x.txt"]


def test_clearing_up_spares_running_writers_and_other_files(tmp_path):
    path = tmp_path / "x.txt"
    kill_a_writer(tmp_path / "x.5.txt")
    kill_a_writer(tmp_path / "x.csv")
    others = set(os.listdir(tmp_path))
    assert len(others) == 2
    running = write_in_a_process(path, "time.sleep(60)")
    assert running.stdout.readline() == b"begun\n"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert (tmp_path / f".x.{running.pid}.txt").read_text() == "half"
    running.kill()
    running.communicate()
    with replacing(path) as temporary:
        temporary.write_text("newer")
    assert path.read_text() == "newer" and set(os.listdir(tmp_path)) == {*others, "x.txt"}


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / f".x.{os.getpid()}.txt").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), replacing(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "precious").read_text() == "content"


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
