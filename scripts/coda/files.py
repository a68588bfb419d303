"""Files written whole or not at all, and tables whose ids are strings."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from filelock import lock_descriptor

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
    """Write a table as Parquet or CSV, by the suffix of `path`, whole or not at all."""
    with replacing(path) as temporary:
        if temporary.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)


def read_table(path: str | os.PathLike, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a Parquet, CSV or TSV table (gzipped or not), text columns as strings.

    Plate ids such as ``1053597806`` look like numbers, so text formats are read as strings
    throughout; empty cells become ``None``.

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
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            separator = "," if ".csv" in path.suffixes else "\t"
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
            table = table.where(table != "", None)
    except FileNotFoundError:
        raise UserError(f"The table {path} does not exist.") from None
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise UserError(f"The table {path} cannot be read: {error}") from error
    missing = [name for name in columns or [] if name not in table.columns]
    if missing:
        raise UserError(
            f"The table {path} lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns)}."
        )
    return table[columns] if columns else table


def write_json(value: object, path: str | os.PathLike) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
