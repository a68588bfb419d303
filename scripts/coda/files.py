"""Files written whole or not at all, and tables whose ids are strings."""

import codecs
import csv
import gzip
import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pandas as pd
import pyarrow
import pyarrow.csv
from filelock import lock_descriptor
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype

from coda.columns import WELL_KEYS
from coda.errors import UserError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place only if the block succeeds.

    The temporary name carries the process id, so two processes never write to the same file, and
    the data reach the disk before the name does: a reader finds the old file or the new one, whole.
    Temporary files that killed processes have left are removed first.

    Parameters
    ----------
    path
        The file to make. Its folder is made if needed.

    Yields
    ------
    Path
        Where to write. It keeps the suffix of `path`, since writers choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with open(temporary, "wb", opener=_open_no_link) as claim:
            _lock(claim)
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose process has ended.

    A process id alone says nothing about another machine on the same disk, or once it is used
    again. The lock does: the kernel gives it up when its process ends, however it ends.
    """
    name = re.compile(rf"\.{re.escape(path.stem)}\.\d+{re.escape(path.suffix)}")
    with os.scandir(path.parent) as entries:
        found = [entry.path for entry in entries if name.fullmatch(entry.name)]
    for temporary in found:
        with suppress(OSError), open(temporary, "rb", opener=_open_no_link) as handle:
            if _lock(handle):
                os.unlink(temporary)


def _open_no_link(path: str, flags: int) -> int:
    """Open a file but no link: writing through one would overwrite what it points to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _lock(handle: BinaryIO) -> bool:
    """Lock a file for as long as it stays open; whether that succeeded."""
    with suppress(OSError):  # a file system without locks
        return lock_descriptor(handle.fileno(), blocking=False)
    return False


def write_table(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table as Parquet or CSV, by the suffix of `path`, whole or not at all.

    In CSV, text that a spreadsheet would compute gets an apostrophe before it, and line ends in text are spaces.
    """
    with replacing(path) as temporary:
        if temporary.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            _escaped(table).to_csv(temporary, index=False)


# How a cell begins that a spreadsheet would compute; an apostrophe before it, which a spreadsheet hides, makes it text.
FORMULA = r"'*[=+\-@\t\r]"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)


def _escaped(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before text that a spreadsheet would compute; `parse_table` takes it away again.

    Line ends become spaces: behind one, whatever quotes say, some programs begin a row.
    """

    def text_of(cell: object) -> object:
        if not isinstance(cell, str):
            return cell
        cell = re.sub(r"[\r\n]+", " ", cell)
        formula = re.match(FORMULA, cell) and not NUMBER.fullmatch(cell)
        return f"'{cell}" if formula else cell

    table = table.rename(columns=text_of)
    texts = [
        number
        for number, kind in enumerate(table.dtypes)
        if not is_numeric_dtype(kind) and not is_datetime64_any_dtype(kind)
    ]
    for number in texts:
        table.isetitem(
            number, table.iloc[:, number].astype(object).map(text_of, na_action="ignore")
        )
    return table


# What tables write where a cell holds nothing.
MISSING = ["", "-", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "None", "NULL", "null"]
# Ids, which are text even where a Parquet file has numbers.
IDS = [*WELL_KEYS, "Metadata_Batch", "Metadata_PlateType", "Metadata_JCP2022"]
MOST_COLUMNS = 2**14  # tables of features have some thousands
MOST_BYTES = 2**31  # of a table, unpacked
# How web pages begin that servers send instead of a table.
NO_TABLES = (b"<!doctype", b"<html", b"<?xml", b"version https://git-lfs")


def read_table(path: str | os.PathLike, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a Parquet, CSV or TSV table (gzipped or not), see `parse_table`.

    Parameters
    ----------
    path
        A ``.parquet``, ``.csv``, ``.tsv`` or ``.txt`` file, the last three also with ``.gz``.
    columns
        Columns that must be there, and the only ones read. All columns by default.

    Raises
    ------
    UserError
        If the file is missing, unreadable or lacks one of `columns`.
    """
    path = Path(path)
    try:
        # A large table of this workflow is not held twice.
        parquet = path.suffix == ".parquet"
        table = _parquet(path) if parquet else parse_table(path.read_bytes(), path)
    except FileNotFoundError:
        raise UserError(f"The table {path} does not exist.") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"The table {path} cannot be read: {error}") from error
    missing = [name for name in columns or [] if name not in table.columns]
    if missing:
        raise UserError(
            f"The table {path} lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns)}."
        )
    return table[columns] if columns else table


def parse_table(data: bytes, name: str | os.PathLike) -> pd.DataFrame:
    """Read the bytes of a Parquet, CSV or TSV table, whoever wrote it.

    Text loses the spaces around it, and what stands for nothing (`MISSING`) is missing. Ids of plates look
    like numbers, so all cells of CSV and TSV are text, as are the columns `IDS` of Parquet. The encoding
    is UTF-8, UTF-16 with its mark, or else Latin-1; cells are parted by what a line ``sep=;`` before the heading
    or else the suffix says, or where the heading has none of it by commas, semicolons or tabs. Leading lines with
    ``!`` (the Repurposing Hub's header), rows without a value and columns without a name are left out, and so is an
    empty cell behind the last column. An apostrophe before what a spreadsheet would compute, as `write_table` puts it,
    goes. In tables with tabs a quote is a character, unless it closes its own cell.

    Parameters
    ----------
    data
        Content of the file.
    name
        Its name or address, whose suffix tells the format.

    Raises
    ------
    ValueError
        If the bytes are of another format, are cut off, or have rows that do not fit the heading.
    """
    suffixes = PurePosixPath(name).suffixes
    if ".parquet" in suffixes:
        return _parquet(io.BytesIO(data))
    if suffixes and suffixes[-1] == ".gz":
        with gzip.open(io.BytesIO(data)) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES} bytes")
    if data[:200].lstrip().lower().startswith(NO_TABLES):
        raise ValueError("the answer is not a table but a web page or a Git LFS pointer")
    if data.startswith(b"PK"):
        raise ValueError("it is a spreadsheet or an archive; save it as CSV")
    while data.startswith(b"!"):
        data = data.partition(b"\n")[2]
    text = _decoded(data).lstrip("\r\n")
    said = re.match(r"sep=([,;\t])\r?\n", text)  # Excel's own line
    text = text[said.end() if said else 0 :]
    heading, _, rows = text.partition("\n")
    if not heading.strip():
        raise ValueError("it is empty")
    by_suffix = "," if ".csv" in suffixes else "\t"
    separator = next((mark for mark in (by_suffix, *",;\t") if mark in heading), by_suffix)
    separator = said[1] if said else separator
    try:
        (names,) = csv.reader([heading.rstrip("\r")], delimiter=separator)
    except csv.Error as error:
        raise ValueError(f"its heading cannot be read ({error})") from error
    names = [re.sub(f"^'(?={FORMULA})", "", cell.strip()) for cell in names]
    if len(names) > MOST_COLUMNS:
        raise ValueError(f"its heading has {len(names)} columns; at most {MOST_COLUMNS} are read")
    counts = Counter(names)
    if twice := [cell for cell in names if cell and counts[cell] > 1]:
        raise ValueError(f"its heading names the column {twice[0]} twice")
    cells = _cells(rows.encode(), len(names), separator)
    if "'" in rows:
        cells = cells.apply(lambda column: column.str.replace(f"^'(?={FORMULA})", "", regex=True))
    table = _clean(cells).dropna(how="all")
    return table.reset_index(drop=True).set_axis(names, axis=1).loc[:, [*map(bool, names)]]


def _parquet(source: Path | io.BytesIO) -> pd.DataFrame:
    """Read a Parquet table."""
    try:
        return _clean(pd.read_parquet(source))
    except (OSError, ValueError):
        raise
    except Exception as error:  # damaged metadata end in errors of many unrelated types
        raise ValueError(f"its metadata are damaged ({error!r})") from error


def _decoded(data: bytes) -> str:
    """Decode the text of a table."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


class _UnfitRow(ValueError):
    """A row with another number of cells than the heading."""

    def __init__(self, number: int, cells: int, width: int, cut: bool):
        end = ", and the table has no line end after it, so it may be cut off" if cut else ""
        super().__init__(f"row {number} has {cells} cell(s), the heading {width}{end}")
        self.cells = cells


def _cells(data: bytes, width: int, separator: str) -> pd.DataFrame:
    """Read the rows below a heading of `width` cells; in some exports each ends with a separator more."""
    if not data.strip():
        return pd.DataFrame(columns=range(width), dtype="str")
    try:
        return _split(data, width, separator)
    except _UnfitRow as unfit:
        if unfit.cells != width + 1:
            raise
        with suppress(_UnfitRow):
            table = _split(data, width + 1, separator)
            if table.pop(width).str.strip().eq("").all():
                return table
        raise


def _split(data: bytes, width: int, separator: str) -> pd.DataFrame:
    """Split rows into `width` cells of text."""
    unfit = []

    def stop(row: pyarrow.csv.InvalidRow) -> str:
        unfit.append(row)
        return "error"

    names, tabs = [str(number) for number in range(width)], separator == "\t"
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char=False if tabs else '"',
                newlines_in_values=not tabs,
                invalid_row_handler=stop,
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string())),
        ).to_pandas()
    except pyarrow.ArrowInvalid:
        if not unfit:
            raise
        row = unfit[0]
        cut = row.actual_columns < width and not data.endswith(b"\n")
        raise _UnfitRow(row.number, row.actual_columns, width, cut) from None
    table.columns = range(width)
    for number in table:
        column = table[number]
        if tabs:
            own = column.str.fullmatch(r'\s*".*"\s*')
            inner = column.str.strip().str.slice(1, -1).str.replace('""', '"', regex=False)
            table[number] = column.mask(own, inner)
        elif data.count(b"\n") > len(table) and (broken := column.str.contains("\n")).any():
            raise ValueError(
                f"a quote in row {broken.idxmax() + 1} is not closed before the line ends"
            )
    return table


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    """Mark missing text, strip the rest, and make text of ids that are numbers."""
    for name, column in table.items():
        if column.dtype == "str":
            text = column.str.strip()
            table[name] = text.mask(text.isin(MISSING))
        elif name in IDS and is_numeric_dtype(column):
            whole = column.dropna().mod(1).eq(0).all()
            table[name] = (column.astype("Int64") if whole else column).astype("str")
    return table


def write_json(value: object, path: str | os.PathLike) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
