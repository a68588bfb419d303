"""Selection of plates from JUMP's plate table and from sample sheets of other plates."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from coda.columns import PLACE_COLUMNS, PLATE_KEYS, WELL_KEYS
from coda.errors import UserError, did_you_mean
from coda.files import read_table
from coda.logs import tell
from coda.paths import check_name, expanded_path

PLATE_COLUMNS = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_PlateType"]
WELL_COLUMNS = [*WELL_KEYS, "Metadata_JCP2022"]


def select_plates(
    plates: pd.DataFrame, plate_type: str, sources: dict[str, dict], exclude: Iterable[str] = ()
) -> pd.DataFrame:
    """Select the plates to use.

    Parameters
    ----------
    plates
        Metadata_Source, Metadata_Batch, Metadata_Plate, Metadata_PlateType.
    plate_type
        The type of plates to use, for example ``TARGET2``.
    sources
        For each source ``validation_plate`` (an id, or None for no validation), ``plates`` (a list
        of ids, or None for all of the type) and ``batches`` (a list of batches, empty for all);
        the held-out plate may be of any batch.
    exclude
        Ids of plates to leave out.

    Returns
    -------
    pandas.DataFrame
        The columns of `plates` and ``subset`` ("train" or "validation"), by source as in
        `sources`, batch and plate.

    Raises
    ------
    UserError
        If a source, batch or plate is not in the table or not of the type, a plate is both excluded
        and named or is in several batches, two plates of a source differ in case alone, or a source is left without
        training plates.
    """
    excluded = {str(plate) for plate in exclude}
    for plate in sorted(excluded - set(plates["Metadata_Plate"])):
        known = plates["Metadata_Plate"]
        hint = read_as_octal(plate, known) or did_you_mean(plate, known)
        raise UserError(f"exclude_plates names {plate}, which is not in tables.plate{hint}")
    if not sources:
        raise UserError("sources is empty; name at least one source there.")
    chosen = [
        source_plates(plates, plate_type, source, wish or {}, excluded)
        for source, wish in sources.items()
    ]
    table = pd.concat(chosen, ignore_index=True)
    for name in table[PLATE_COLUMNS[:3]].to_numpy().ravel():
        check_name(name, "tables.plate")
    lower = table[PLATE_KEYS].apply(lambda names: names.str.lower())
    if (again := lower.duplicated()).any():
        same = lower.eq(lower[again].iloc[0]).all(axis=1)
        source, alike = (
            table.loc[same, "Metadata_Source"].iloc[0],
            table.loc[same, "Metadata_Plate"],
        )
        raise UserError(
            f"The plates {' and '.join(alike)} of {source} differ in case alone: on many disks their results would be "
            "the same files; rename one, or leave it out (exclude_plates)."
        )
    return table


def source_plates(
    plates: pd.DataFrame, plate_type: str, source: str, wish: dict, excluded: set[str]
) -> pd.DataFrame:
    """Select the plates of one source; see `select_plates`."""
    own = plates[plates["Metadata_Source"] == source]
    if own.empty:
        hint = did_you_mean(source, plates["Metadata_Source"])
        raise UserError(
            f"sources names {source}, which is not in tables.plate nor in the sample sheet{hint}"
        )
    own = own.drop_duplicates(PLATE_COLUMNS)
    types = own.groupby("Metadata_Plate")["Metadata_PlateType"].agg(set).to_dict()
    # Ids of digits alone are numbers to YAML unless quoted.
    asked = None if wish.get("plates") is None else [str(plate) for plate in wish["plates"]]
    held = None if wish.get("validation_plate") is None else str(wish["validation_plate"])
    for plate in asked or []:
        check_choice(f"sources.{source}.plates", plate, plate_type, types, excluded)
    if held is not None:
        check_choice(f"sources.{source}.validation_plate", held, plate_type, types, excluded)
    fit = (own["Metadata_PlateType"] == plate_type) & ~own["Metadata_Plate"].isin(excluded)
    if batches := [str(batch) for batch in wish.get("batches") or []]:
        check_batches(f"sources.{source}", batches, own[fit], asked or [])
        among = own["Metadata_Batch"].isin(batches)
        elsewhere = (own["Metadata_Plate"] == held) & (
            held not in set(own.loc[fit & among, "Metadata_Plate"])
        )
        fit &= among | elsewhere
    if asked is not None:
        fit &= own["Metadata_Plate"].isin([*asked, held])
    own = own[fit].sort_values(["Metadata_Batch", "Metadata_Plate"])
    for plate, rows in own.groupby("Metadata_Plate"):
        if len(rows) > 1:
            raise UserError(
                f"{source} {plate} is in {len(rows)} batches ({', '.join(map(str, rows['Metadata_Batch']))}); name "
                f"the right ones under sources.{source}.batches, or leave the plate out (exclude_plates)."
            )
    subset = ["validation" if plate == held else "train" for plate in own["Metadata_Plate"]]
    if "train" not in subset:
        raise UserError(
            f"{source} has no {plate_type} plate left to train on; "
            f"name more under sources.{source}.plates or batches, or fewer under exclude_plates."
        )
    return own.assign(subset=subset)


def check_choice(
    key: str, plate: str, plate_type: str, types: dict[str, set[str]], excluded: set[str]
) -> None:
    """Refuse a plate named in the config that is not there, of another type or excluded."""
    if plate not in types:
        hint = read_as_octal(plate, types) or did_you_mean(plate, types)
        raise UserError(f"{key} names {plate}, which is no plate of this source{hint}")
    if plate_type not in types[plate]:
        found = ", ".join(sorted(map(str, types[plate])))
        raise UserError(
            f"{key} names {plate}, a plate of type {found}; plate_type is {plate_type}."
        )
    if plate in excluded:
        raise UserError(f"{key} names {plate}, which exclude_plates leaves out; drop it from one.")


def read_as_octal(plate: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown plate where YAML made another number of a known one: of 0041 it makes 33."""
    for name in known:
        if re.fullmatch("0[0-7]+", str(name)) and str(int(name, 8)) == plate:
            return f"; YAML reads {name} as {plate}, so put it in quotes: '{name}'."
    return ""


def check_batches(key: str, batches: list[str], own: pd.DataFrame, asked: list[str]) -> None:
    """Refuse batches that hold none of a source's plates, or exclude a plate that is named."""
    for batch in batches:
        if batch not in set(own["Metadata_Batch"]):
            hint = did_you_mean(batch, own["Metadata_Batch"])
            raise UserError(f"{key}.batches names {batch}, of which no plate can be used{hint}")
    for plate in asked:
        found = own.loc[own["Metadata_Plate"] == plate, "Metadata_Batch"]
        if not found.isin(batches).any():
            raise UserError(
                f"{key}.plates names {plate} of the batch {', '.join(found)}, which {key}.batches leaves out; "
                "add the batch or drop the plate."
            )


def read_sample_sheet(path: str | Path, plate_type: str) -> pd.DataFrame:
    """Read a sample sheet: plates that are not JUMP's.

    Parameters
    ----------
    path
        CSV or TSV with Metadata_Source, Metadata_Batch and Metadata_Plate (or source, batch and plate; without batches,
        all plates of a source are of one) and as wished ``root`` (folder or bucket, instead of gallery.root),
        ``load_data`` (its key below the root, if not in JUMP's place) or ``images`` (the folder below the root whose
        files are the plate's images), ``pattern`` (how they are named), ``plane`` and ``time`` (which of several);
        ``layout`` (file with Metadata_Well and Metadata_JCP2022) or ``platemap`` (file with wells and compounds of any
        names).
    plate_type
        The type that the plates count as.

    Returns
    -------
    pandas.DataFrame
        The columns of the plate table and `PLACE_COLUMNS` (missing where not given).

    Raises
    ------
    UserError
        If a column is missing or misspelt, a cell is missing, an id could not be a file name, a plate occurs
        twice, has both a layout and a platemap or both a load_data and a pattern, or a plane or time without a pattern.
    """
    sheet = read_table(path).astype("str")
    required = PLATE_COLUMNS[:3]
    short = {name.removeprefix("Metadata_").lower(): name for name in required}
    sheet = sheet.rename(columns={name: short[name] for name in short if name in sheet})
    if required[1] not in sheet:
        sheet[required[1]] = "batch_1"
        tell(
            f"The sample sheet {path} names no batches; all plates of a source are of one, batch_1."
        )
    missing = [column for column in required if column not in sheet]
    if missing:
        raise UserError(f"The sample sheet {path} lacks the column(s) {', '.join(missing)}.")
    others = [column for column in sheet if column not in [*PLATE_COLUMNS, *PLACE_COLUMNS]]
    for column in others:
        if near := difflib.get_close_matches(column.lower(), PLACE_COLUMNS, 1, cutoff=0.75):
            raise UserError(
                f"The sample sheet {path} has an unknown column {column}; did you mean {near[0]}?"
            )
    if others:
        tell(f"The sample sheet {path} has columns that are not used: {', '.join(others)}")
    for name in sheet[required].to_numpy().ravel():
        check_name(name, f"the sample sheet {path}")
    twice = sheet["Metadata_Plate"][sheet.duplicated(PLATE_KEYS)]
    if len(twice):
        raise UserError(f"The sample sheet {path} names the plate {twice.iloc[0]} twice.")
    sheet["Metadata_PlateType"] = plate_type
    sheet = sheet.reindex(columns=[*PLATE_COLUMNS, *PLACE_COLUMNS])
    named = sheet["images"].notna() | sheet["pattern"].notna()
    for axis in ("plane", "time"):
        if (lone := sheet[axis].notna() & ~named).any():
            plate = sheet.loc[lone, "Metadata_Plate"].iloc[0]
            raise UserError(
                f"The sample sheet {path} says which {axis} of {plate} to take, but "
                "neither images nor a pattern; planes and times are told apart by the names of files alone."
            )
    for one, other in (("layout", "platemap"), ("load_data", "pattern"), ("load_data", "images")):
        both = sheet[one].notna() & sheet[other].notna()
        if both.any():
            raise UserError(
                f"The sample sheet {path} gives the plate {sheet.loc[both, 'Metadata_Plate'].iloc[0]} both a {one} and "
                f"a value of {other}; leave one of the cells empty."
            )
    for column in ("root", "layout", "platemap"):
        where = f"{column} in the sample sheet {path}"
        sheet[column] = sheet[column].map(lambda given, w=where: expanded_path(given, w), "ignore")
    return sheet


def add_own_plates(plates: pd.DataFrame, sheet: pd.DataFrame) -> pd.DataFrame:
    """Add the plates of a sample sheet to JUMP's; for a plate in both, the row of the sheet is used."""
    own = pd.MultiIndex.from_frame(sheet[PLATE_KEYS])
    others = plates[~pd.MultiIndex.from_frame(plates[PLATE_KEYS]).isin(own)]
    return pd.concat([others, sheet], ignore_index=True)


def read_training_wells(
    table: str | Path, plates: pd.DataFrame, training: list[str]
) -> pd.DataFrame:
    """Read the wells of all plates that train, see `read_wells`; `plates` may have a column ``layout``."""
    own = plates[plates["Metadata_Source"].isin(training) & (plates["subset"] == "train")]
    given = own["layout"].notna() if "layout" in own else pd.Series(False, index=own.index)
    filters = [
        ("Metadata_Source", "in", training),
        ("Metadata_Plate", "in", own.loc[~given, "Metadata_Plate"].tolist()),
    ]
    public = [] if given.all() else [pd.read_parquet(table, columns=WELL_COLUMNS, filters=filters)]
    rows = own.loc[given, [*PLATE_KEYS, "layout"]] if given.any() else own.iloc[:0]
    return pd.concat(
        [*public, *(read_wells(table, *row) for row in rows.itertuples(index=False))],
        ignore_index=True,
    )


def read_wells(
    table: str | Path, source: str, plate: str, layout: str | Path | None = None
) -> pd.DataFrame:
    """Read the wells of one plate.

    Parameters
    ----------
    table
        JUMP's wells as Parquet, `WELL_COLUMNS`; of its million rows only the plate's are read.
    source, plate
        Which plate.
    layout
        File with Metadata_Well and Metadata_JCP2022 that is read instead: a plate of one's own.

    Returns
    -------
    pandas.DataFrame
        `WELL_COLUMNS`, all text.
    """
    if layout is None:
        own = [("Metadata_Source", "==", source), ("Metadata_Plate", "==", plate)]
        return pd.read_parquet(table, columns=WELL_COLUMNS, filters=own)
    wells = read_table(layout, WELL_COLUMNS[2:])
    return wells.assign(Metadata_Source=source, Metadata_Plate=plate)[WELL_COLUMNS]
