"""Wells and the plates they lie on."""

import re

from coda.errors import UserError

# Rows and columns of the usual plates: 96, 384 and 1,536 wells.
FORMATS = ((8, 12), (16, 24), (32, 48))


def well_place(well: str) -> tuple[int, int]:
    """Row and column, from 0, of a well such as ``A01`` or, on 1,536-well plates, ``AF48``.

    Raises
    ------
    UserError
        If it is no well.
    """
    found = re.fullmatch(r"([A-Z]{1,2})(\d{1,2})", well)
    if not found:
        raise UserError(
            f"{well!r} is no well; wells look like A01. Check the wells table of this plate."
        )
    row = 0
    for letter in found[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1, int(found[2]) - 1


def row_letters(row: int) -> str:
    """Give the letters of a plate's row, counted from 0.

    >>> row_letters(0), row_letters(31)
    ('A', 'AF')
    """
    return chr(ord("A") + row) if row < 26 else "A" + chr(ord("A") + row - 26)


def plate_format(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the smallest usual plate with at least that many.

    Raises
    ------
    UserError
        If there is none.
    """
    for shape in FORMATS:
        if rows <= shape[0] and columns <= shape[1]:
            return shape
    raise UserError(
        f"No plate has {rows} rows and {columns} columns; check the wells table of this plate."
    )
