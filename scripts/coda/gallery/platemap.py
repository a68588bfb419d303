"""Platemaps of one's own: a row a well with its compound, under the headings that labs use."""

import re
from pathlib import Path

import pandas as pd

from coda.errors import UserError
from coda.files import read_table
from coda.gallery.labels import PLACEHOLDERS
from coda.gallery.site_index import COMPOUND_COLUMNS, rows_of_plate, well_names
from coda.logs import some, tell, warn
from coda.wells import row_letters

# Headings of each column, in small letters without spaces and signs; ``Metadata_`` before them is left out.
HEADINGS = {
    "well": ("well", "wellid", "wellname", "wellposition", "welllabel"),
    "row": ("row", "wellrow", "platerow"),
    "column": ("column", "col", "wellcolumn", "wellcol", "platecolumn"),
    "plate": ("plate", "plateid", "platename", "barcode", "platebarcode", "assayplatebarcode"),
    "compound": (
        "compound",
        "compoundid",
        "drug",
        "substance",
        "treatment",
        "perturbation",
        "broadsample",
        "jcp2022",
    ),
    "name": ("compoundname", "drugname", "treatmentname", "pertiname"),
    "concentration": (
        "concentration",
        "concentrationum",
        "concentrationnm",
        "concentrationmm",
        "conc",
        "concum",
        "concnm",
        "dose",
        "doseum",
        "dosenm",
    ),
    "control": ("control", "controltype", "perttype", "welltype", "role"),
    "negative": ("negcon", "negativecontrol", "isnegativecontrol", "isnegcon"),
    "moa": ("moa", "mechanism", "mechanismofaction"),
    "inchikey": ("inchikey",),
}
# What a column of controls says, likewise spelt.
KINDS = {
    "negcon": ("negcon", "neg", "negative", "negativecontrol", "negctrl", "vehicle", "dmso"),
    "poscon": ("poscon", "posconcp", "pos", "positive", "positivecontrol", "posctrl"),
    "trt": ("trt", "treated", "treatment", "compound", "sample", "test", "no", "false", "0"),
    "empty": ("empty", "blank"),
}
YES = ("yes", "true", "1", "x", "y")
NO = ("no", "false", "0", "n")
# What compounds are called that are the solvent alone; JUMP's id of DMSO among them.
SOLVENTS = re.compile(r"dmso(\d.*)?|vehicle|solvent|negcon|negativecontrol|jcp2022033924")
AT = " @ "  # between a compound and its dose
NO_COMPOUND = ("empty", "blank", *(name.lower().replace("_", "") for name in PLACEHOLDERS))


def read_platemap(path: str | Path, plate: str) -> pd.DataFrame:
    """Read the wells of a plate from a platemap.

    A row is a well. Needed are the well (or its row and column) and the compound, under one of the `HEADINGS`
    in any case; what each column was taken for is told. A column of plates parts the rows of several plates.
    Negative controls are those that a column marks or, where none does, those with the name of a solvent.

    Parameters
    ----------
    path
        CSV, TSV or Parquet file.
    plate
        The plate whose rows are wanted.

    Returns
    -------
    pandas.DataFrame
        One row a well, as text: Metadata_Well (like A01), Metadata_JCP2022 (what identifies the treatment: the
        compound, followed by ``@`` and the concentration where there is one; missing where the well is empty),
        Metadata_InChIKey, Metadata_pert_iname (the compound's name), Metadata_pert_type (trt, negcon or poscon)
        and Metadata_moa (missing without such a column).

    Raises
    ------
    UserError
        If a column is missing or named twice, a mark of a control is not understood, a well has two compounds,
        or a compound has two kinds, names or mechanisms.
    """
    rows = by_meaning(read_table(path).astype("str"), path)
    if "plate" in rows:
        rows = rows_of_plate(rows.rename(columns={"plate": "Metadata_Plate"}), plate, str(path))
    if rows.empty:
        raise UserError(f"The platemap {path} has no well of the plate {plate}.")
    wells = rows["well"] if "well" in rows else joined_wells(rows, path)
    kinds = well_kinds(rows, path)
    empty = rows["compound"].isna() | rows["compound"].map(plain, "ignore").isin(NO_COMPOUND)
    empty |= kinds == "empty"
    compounds = rows["compound"].mask(empty)
    doses = rows["concentration"].map(plain_number, "ignore") if "concentration" in rows else None
    treatments = compounds
    if doses is not None:
        dosed = doses.notna() & (kinds != "negcon") & ~empty
        treatments = compounds.where(~dosed, compounds + AT + doses.fillna(""))
    nothing = pd.Series(None, index=rows.index, dtype="str")
    table = pd.DataFrame(
        {
            "Metadata_Well": well_names(wells, str(path)),
            "Metadata_JCP2022": treatments,
            "Metadata_InChIKey": rows.get("inchikey", nothing).mask(empty),
            "Metadata_pert_iname": rows.get("name", compounds).fillna(compounds).mask(empty),
            "Metadata_pert_type": kinds.mask(empty),
            "Metadata_moa": rows.get("moa", nothing).mask(empty),
        }
    ).drop_duplicates()
    refuse_contradictions(table, path)
    if not (table["Metadata_pert_type"] == "negcon").any():
        warn(
            f"{path} marks no negative control on {plate}: there is no alignment by controls and no activity against "
            "them, and harmonisation takes all wells of the plate"
        )
    return table.astype("str").reset_index(drop=True)


def compounds_of(platemap: pd.DataFrame) -> pd.DataFrame:
    """Give the compounds of a platemap, as `coda.gallery.labels.label_compounds` gives those of JUMP.

    Parameters
    ----------
    platemap
        As from `read_platemap`.
    """
    columns = ["Metadata_JCP2022", *COMPOUND_COLUMNS]
    known = platemap.loc[platemap["Metadata_JCP2022"].notna(), columns]
    return known.drop_duplicates("Metadata_JCP2022").reset_index(drop=True)


def plain(text: str) -> str:
    """Write a heading or a mark in small letters without spaces and signs.

    >>> plain("Concentration [uM]"), plain("Metadata_Well_ID")
    ('concentrationum', 'wellid')
    """
    letters = text.strip().lower().replace("µ", "u").replace("μ", "u").removeprefix("metadata_")
    return re.sub(r"[\W_]", "", letters)


def by_meaning(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Name the columns of a platemap by what they mean, and leave the others out."""
    found: dict[str, str] = {}
    for heading in table:
        meaning = next((name for name, known in HEADINGS.items() if plain(heading) in known), None)
        if meaning in found:
            raise UserError(
                f"The platemap {path} has two columns that can be its {meaning}: {found[meaning]} and {heading}; "
                "rename or delete one."
            )
        if meaning:
            found[meaning] = heading
    if "compound" not in found and "name" in found:
        found["compound"] = found["name"]
    lacking = []
    if "well" not in found and not {"row", "column"} <= set(found):
        lacking.append("well (or row and column)")
    if "compound" not in found:
        lacking.append("compound")
    if lacking:
        raise UserError(
            f"The platemap {path} lacks a column {' and one '.join(lacking)}; it has {', '.join(table) or 'none'}. "
            "See docs/own-data.md for the headings that are understood."
        )
    if "well" in found:
        found.pop("row", None)
        found.pop("column", None)
    used = ", ".join(f"{name} from {heading!r}" for name, heading in found.items())
    left = [heading for heading in table if heading not in found.values()]
    tell(f"{path}: {used}" + (f"; not used: {', '.join(left)}" if left else ""))
    return pd.DataFrame({name: table[heading] for name, heading in found.items()})


def joined_wells(rows: pd.DataFrame, path: str | Path) -> pd.Series:
    """Join rows, by letter or number from 1, and columns to wells."""

    def letters(row: str) -> str:
        return row_letters(int(row) - 1) if row.isdecimal() and 0 < int(row) <= 32 else row

    if rows["row"].isna().any() or rows["column"].isna().any():
        raise UserError(f"The platemap {path} has a row of wells without its row or column.")
    return rows["row"].map(letters) + rows["column"].str.removesuffix(".0")


def well_kinds(rows: pd.DataFrame, path: str | Path) -> pd.Series:
    """Tell what each well is: trt, negcon, poscon or empty."""
    kinds = pd.Series("trt", index=rows.index, dtype="str")
    if "control" in rows:
        meanings = {word: kind for kind, words in KINDS.items() for word in words}
        said = rows["control"].map(plain, "ignore")
        unknown = said.notna() & ~said.isin(meanings)
        if unknown.any():
            raise UserError(
                f"The platemap {path} marks a well as {rows.loc[unknown, 'control'].iloc[0]!r}, which is no kind of "
                "well known here; write negcon, poscon, trt or empty (or leave the cell empty for treated wells)."
            )
        kinds = said.map(meanings).fillna("trt")
    if "negative" in rows:
        said = rows["negative"].map(plain, "ignore")
        unknown = said.notna() & ~said.isin([*YES, *NO])
        if unknown.any():
            raise UserError(
                f"The platemap {path} says {rows.loc[unknown, 'negative'].iloc[0]!r} where it marks negative controls; "
                "write yes or no."
            )
        kinds = kinds.mask(said.isin(YES), "negcon")
    if not (kinds == "negcon").any():
        named = rows["compound"].map(plain, "ignore").str.fullmatch(SOLVENTS.pattern, na=False)
        if named.any():
            warn(
                f"{path} marks no negative control; wells with {some(rows.loc[named, 'compound'])} are taken for those"
            )
        kinds = kinds.mask(named, "negcon")
    return kinds


def plain_number(text: str) -> str:
    """Write numbers one way (``10.0`` as ``10``), with a point; anything else stays as it is.

    In ``1,000`` the comma can part thousands, too, so it stays.
    """
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,2})?", text, re.ASCII):
        return text
    if re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text):
        return text
    return f"{float(text.replace(',', '.')):.15g}"


def refuse_contradictions(table: pd.DataFrame, path: str | Path) -> None:
    """Refuse wells with two compounds, and compounds that are called two things."""
    again = table["Metadata_Well"].duplicated()
    if again.any():
        well = table.loc[again, "Metadata_Well"].iloc[0]
        held = table.loc[table["Metadata_Well"] == well, "Metadata_JCP2022"].fillna("nothing")
        raise UserError(
            f"The platemap {path} names well {well} {len(held)} times, with {some(held)}; a well has one row, so "
            "correct it (where it lists several plates, it needs a column plate)."
        )
    for column in COMPOUND_COLUMNS:
        counts = table.groupby("Metadata_JCP2022")[column].nunique()
        if (counts > 1).any():
            compound = counts.idxmax()
            called = table.loc[table["Metadata_JCP2022"] == compound, column]
            raise UserError(
                f"The platemap {path} gives {compound} several {column.removeprefix('Metadata_')} "
                f"({some(called.dropna())}); one compound has one, so correct the rows."
            )
