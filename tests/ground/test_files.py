import contextlib
import csv
import gzip
import os
import random
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import MISSING, parse_table, read_table, replacing, write_json, write_table
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
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


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_what_stands_for_nothing_is_missing_in_every_format(tmp_path, name):
    words = [*MISSING, *(f" {word} " for word in MISSING), "kept"]
    table = pd.DataFrame({"id": [f"x{number}" for number in range(len(words))], "moa": words})
    if name.endswith("parquet"):
        table.to_parquet(tmp_path / name)
    else:
        table.to_csv(tmp_path / name, sep="," if name.endswith("csv") else "\t", index=False)
    assert read_table(tmp_path / name)["moa"].isna().tolist() == [True] * (len(words) - 1) + [False]


def test_ids_are_text_whatever_parquet_says(tmp_path):
    table = pd.DataFrame(
        {
            "Metadata_Plate": [1053600674, 1053600681],
            "Metadata_Batch": [20210503.0, None],
            "Metadata_Site": [1, 2],
            "Metadata_Sites": [9, 9],
            "score": [0.5, 1.5],
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    again = read_table(tmp_path / "t.parquet")
    assert again["Metadata_Plate"].tolist() == ["1053600674", "1053600681"]
    assert again["Metadata_Batch"].iloc[0] == "20210503" and again["Metadata_Batch"].isna().iloc[1]
    assert (again[["Metadata_Site", "Metadata_Sites"]].dtypes == "int64").all()
    assert again["score"].dtype == "float64"


# An apostrophe before a formula is how tables say that it is none, and no part of the text.
TEXT = st.text(
    st.characters(codec="latin-1", exclude_categories=["C", "Z"], exclude_characters='"!')
).filter(lambda text: not re.match(r"'+[=+\-@]", text))


@given(
    rows=st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=6),
    separator=st.sampled_from([",", "\t", ";"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    trailing=st.booleans(),
    blank_rows=st.booleans(),
    quoted=st.booleans(),
)
def test_a_table_is_read_alike_however_it_was_exported(
    rows, separator, encoding, line_end, trailing, blank_rows, quoted
):
    """Against the cells that were written; a semicolon or comma within a cell needs quotes."""
    rows = [
        ["a", *(cell.translate({ord(mark): "x" for mark in ",;"}) for cell in row[1:])]
        for row in rows
    ]
    cells = [[f'"{cell}"' if quoted else cell for cell in row] for row in rows]
    lines = [separator.join(row) + (separator if trailing else "") for row in cells]
    if blank_rows:
        blank = ["", separator * (2 + trailing)]
        lines = [row for line in lines for row in (line, blank[len(line) % 2])]
    text = line_end.join([separator.join(["one", "two", "three"]), *lines, ""])
    try:
        data = text.encode(encoding)
        assume(encoding != "latin-1" or data.decode("utf-8", errors="replace").count("\ufffd"))
    except UnicodeEncodeError:
        assume(False)
    table = parse_table(data, "t.tsv" if separator == "\t" else "t.csv")
    expected = [[None if cell in MISSING else cell for cell in row] for row in rows]
    assert list(table) == ["one", "two", "three"]
    assert table.astype(object).where(table.notna(), None).to_numpy().tolist() == expected


def test_a_quote_is_a_character_in_tables_with_tabs():
    data = b'name\tmoa\n"beta\tx\ngamma\ty\n5"-epsilon"\ty\n"a ""b"""\tz\n'
    assert parse_table(data, "drugs.txt")["name"].tolist() == [
        '"beta',
        "gamma",
        '5"-epsilon"',
        'a "b"',
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n1,", None),
        ("a,b\n1,2\n1", "row 2 has 1 cell.*no line end after it, so it may be cut off"),
        ("a,b\n1\n1,2\n", r"row 1 has 1 cell\(s\), the heading 2$"),
        ("a,b\n1,2,3\n", "row 1 has 3 cell"),
        ("a,b\n1,2\n1,2,\n", "row 2 has 3 cell"),
        ('a,b\n"x,2\ny,3\nz",4\n', "quote in row 1 is not closed"),
        ("a,b,a\n1,2,3\n", "names the column a twice"),
        ("", "it is empty"),
        ("<html>no</html>", "web page"),
    ],
)
def test_rows_that_do_not_fit_the_heading_are_refused(text, words):
    if words is None:
        assert len(parse_table(text.encode(), "t.csv")) == 2
    else:
        with pytest.raises(ValueError, match=words):
            parse_table(text.encode(), "t.csv")


def test_columns_without_a_name_are_left_out():
    assert list(parse_table(b",a,b,\n0,1,2,\n", "t.csv")) == ["a", "b"]


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


def test_a_workbook_is_named_as_such(tmp_path):
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match="spreadsheet or an archive; save it as CSV"):
        read_table(tmp_path / "sheet.csv")


ODD = st.text(st.sampled_from("=+-@'\t1.e a\";,"), max_size=6).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(ODD, ODD), min_size=1, max_size=4), ODD)
def test_a_spreadsheet_computes_nothing_and_our_reader_gets_the_text_back(tmp_path, rows, heading):
    assume(heading not in ("", "b"))
    table = pd.DataFrame(rows, columns=[heading, "b"], dtype="str")
    write_table(table, tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        for row in csv.reader(file):
            for cell in row:
                assert cell[:1] not in ("=", "@", "\t") and not re.match(r"[+-](?![\d.])", cell)
    read = read_table(tmp_path / "t.csv")
    expected = table.mask(table.isin(MISSING)).dropna(how="all").reset_index(drop=True)
    pd.testing.assert_frame_equal(read, expected.astype("str"))


def test_numbers_are_no_formulas(tmp_path):
    table = pd.DataFrame({"a": [-1.5, 2.0], "b": ["-3", "+4e-2"], "c": [None, "=1+1"]})
    write_table(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "a,b,c\n-1.5,-3,\n2.0,+4e-2,'=1+1\n"


def test_a_damaged_parquet_table_is_told_in_a_sentence(tmp_path):
    write_table(pd.DataFrame({"a": [1, 2], "b": ["x", None]}), tmp_path / "t.parquet")
    content, rng = (tmp_path / "t.parquet").read_bytes(), random.Random(1)
    for _ in range(200):
        changed = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        (tmp_path / "t.parquet").write_bytes(changed)
        with contextlib.suppress(UserError):
            read_table(tmp_path / "t.parquet")


def test_a_table_that_asks_for_too_much_is_refused_at_once(monkeypatch):
    with pytest.raises(ValueError, match="100000 columns"):
        parse_table(b",".join(b"c%d" % number for number in range(100_000)) + b"\n", "t.csv")
    monkeypatch.setattr("coda.files.MOST_BYTES", 10**6)
    with pytest.raises(ValueError, match="unpacks to more"):
        parse_table(gzip.compress(b"a,b\n" + b"1,2\n" * 10**6), "t.csv.gz")


def test_a_line_end_within_the_heading_is_told_in_a_sentence():
    with pytest.raises(ValueError, match="its heading cannot be read"):
        parse_table(b"a,b\rc,d\n1,2,3\n", "t.csv")


def test_line_ends_within_text_begin_no_row(tmp_path):
    """Readers that know no quotes would find a formula at the beginning of the next row."""
    write_table(pd.DataFrame({"a": ["x\r=1+1", "y\n@z", "\r=1"]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"a\nx =1+1\ny @z\n =1\n"
    assert read_table(tmp_path / "t.csv")["a"].tolist() == ["x =1+1", "y @z", "=1"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_line_by_which_excel_tells_the_separator_is_no_heading(separator):
    text = f"sep={separator}\r\na{separator}b\r\n1{separator}2\r\n"
    assert parse_table(text.encode(), "t.csv").to_dict("list") == {"a": ["1"], "b": ["2"]}
