"""The site index of a plate: which images make up each site, and what its well was treated with."""

import pandas as pd

from coda.errors import UserError
from coda.gallery.base import FetchError, Gallery
from coda.gallery.file_patterns import list_images, plate_folders
from coda.gallery.load_data import find_load_data, read_load_data
from coda.logs import some, tell

COMPOUND_COLUMNS = [
    "Metadata_InChIKey",
    "Metadata_pert_iname",
    "Metadata_pert_type",
    "Metadata_moa",
]
TEXT = [
    "Metadata_Source",
    "Metadata_Batch",
    "Metadata_Plate",
    "Metadata_Well",
    "Metadata_JCP2022",
    *COMPOUND_COLUMNS,
]


def index_plate(
    gallery: Gallery,
    source: str,
    batch: str,
    plate: str,
    wells: pd.DataFrame,
    compounds: pd.DataFrame,
    channels: list[str],
    load_data: str | None = None,
) -> pd.DataFrame:
    """Index the sites of a plate.

    Parameters
    ----------
    gallery
        Where the plate lies.
    source, batch, plate
        Which plate.
    wells
        Metadata_Source, Metadata_Plate, Metadata_Well, Metadata_JCP2022; rows of other plates are
        ignored.
    compounds
        One row per Metadata_JCP2022, as `coda.gallery.labels.label_compounds` gives them.
    channels
        Names of the channels wanted, in the order of the columns to come.
    load_data
        Key of the plate's load_data where it does not lie in JUMP's place.

    Returns
    -------
    pandas.DataFrame
        One row per site, by well and site: Metadata_Source, Metadata_Batch, Metadata_Plate,
        Metadata_Well (like A01), Metadata_Site (int64, as the source counts), Metadata_JCP2022,
        Metadata_InChIKey, Metadata_pert_iname, Metadata_pert_type, Metadata_moa, and a column
        ``Key_<channel>`` a channel: the image's key relative to the gallery's root. What could not
        be joined or was left out is counted and reported on standard error.

    Raises
    ------
    UserError
        If the plate has no images, or its tables lack or contradict what is needed.
    """
    name = f"{source} {plate}"
    try:
        sites = sites_of_plate(gallery, source, batch, plate, channels, load_data)
    except FetchError as error:
        raise UserError(
            f"{gallery.root} did not list the plate {name}: {error}; try again."
        ) from error
    sites["Metadata_Well"] = well_names(sites["Metadata_Well"], name)
    sites["Metadata_Site"] = site_numbers(sites["Metadata_Site"], name)
    sites = whole_sites(sites, [f"Key_{channel}" for channel in channels], name)
    sites.insert(0, "Metadata_Source", source)
    sites.insert(1, "Metadata_Batch", batch)
    sites.insert(2, "Metadata_Plate", plate)
    return add_compounds(sites, wells, compounds, name)


def sites_of_plate(
    gallery: Gallery,
    source: str,
    batch: str,
    plate: str,
    channels: list[str],
    load_data: str | None,
) -> pd.DataFrame:
    """Give a plate's sites from its load_data or, if it has none, from its image folder."""
    key = load_data or find_load_data(gallery, source, batch, plate)
    if key is not None:
        rows = read_load_data(gallery, key, source, channels)
        if not rows.empty:
            return rows_of_plate(rows, plate, key)
        tell(f"{key} is empty")
    parent = f"{source}/images/{batch}/images"
    folders = plate_folders(gallery.folders(parent), plate)
    if not folders:
        raise UserError(
            f"The plate {source} {plate} has neither a load_data nor an image folder in "
            f"{gallery.root}/{parent}; check its batch or leave it out (exclude_plates)."
        )
    tell(f"{source} {plate} has no load_data; its sites are those of the files in {folders[-1]}")
    if len(folders) > 1:
        tell(
            f"{source} {plate} has {len(folders)} image folders; the latest is taken, "
            f"not {', '.join(folders[:-1])}"
        )
    return list_images(gallery, folders[-1], source, plate, channels)


def rows_of_plate(rows: pd.DataFrame, plate: str, key: str) -> pd.DataFrame:
    """Keep the rows of `plate`; where the table has another name throughout, its folder decides."""
    if "Metadata_Plate" not in rows:
        return rows
    own = rows.pop("Metadata_Plate")
    others = own.index[own != plate]
    if len(others) == 0:
        return rows
    called = ", ".join(map(str, own[others].unique()[:3]))
    if len(others) == len(rows):
        tell(f"{key} calls the plate {called}; it is taken for {plate}, in whose folder it lies")
        return rows
    tell(f"{key}: {len(others)} row(s) of other plates ({called}) are left out")
    return rows.drop(others)


def well_names(wells: pd.Series, name: str) -> pd.Series:
    """Write wells as letters and at least two digits: ``a1`` and ``A001`` become ``A01``."""
    raw = pd.Series(wells.dropna().unique(), dtype=str)
    parts = raw.str.strip().str.upper().str.extract(r"^([A-Z]{1,2})0*([1-9]\d?)$")
    names = dict(zip(raw, parts[0] + parts[1].str.zfill(2), strict=True))
    clean = wells.map(names)
    if clean.isna().any():
        row = clean.isna().idxmax()
        raise UserError(
            f"Row {row + 1} of {name} has the well {wells[row]!r}; a well is written like A01."
        )
    return clean


def site_numbers(sites: pd.Series, name: str) -> pd.Series:
    """Read sites as whole numbers; a source that counts from 0 keeps doing so."""
    numbers = pd.to_numeric(sites, errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0) | (numbers < 0)
    if wrong.any():
        row = wrong.idxmax()
        raise UserError(
            f"Row {row + 1} of {name} has the site {sites[row]!r}; a site is a whole number from 0."
        )
    return numbers.astype("int64")


def whole_sites(sites: pd.DataFrame, keys: list[str], name: str) -> pd.DataFrame:
    """Keep one row per site, and only sites with an image in every channel.

    Where a site occurs twice, the images whose keys come last in order are kept: folders end with
    the time of the measurement, so that is the later one, as it is among folders.
    """
    lacking = sites[keys].isna().any(axis=1)
    if lacking.any():
        wells = sites.loc[lacking, "Metadata_Well"]
        tell(f"{name}: {lacking.sum()} site(s) lack a channel and are left out ({some(wells)})")
    place = ["Metadata_Well", "Metadata_Site"]
    ordered = sites[~lacking].sort_values([*place, *keys])
    kept = ordered.drop_duplicates(place, keep="last")
    if len(kept) < len(ordered):
        wells = ordered.loc[ordered.duplicated(place), "Metadata_Well"]
        tell(
            f"{name}: {len(ordered) - len(kept)} row(s) repeat a site; "
            f"the later measurement is kept ({some(wells)})"
        )
    if kept.empty:
        raise UserError(
            f"The plate {name} has no site with an image in every channel ({', '.join(keys)}); "
            "leave it out (exclude_plates) or use fewer channels."
        )
    return kept[[*place, *keys]].reset_index(drop=True)


def add_compounds(
    sites: pd.DataFrame, wells: pd.DataFrame, compounds: pd.DataFrame, name: str
) -> pd.DataFrame:
    """Add each well's compound; say which wells have images only, or a compound only."""
    source, plate = sites.loc[0, ["Metadata_Source", "Metadata_Plate"]]
    layout = wells.loc[
        (wells["Metadata_Source"] == source) & (wells["Metadata_Plate"] == plate),
        ["Metadata_Well", "Metadata_JCP2022"],
    ].copy()
    layout["Metadata_Well"] = well_names(
        layout["Metadata_Well"].reset_index(drop=True), f"{name} in tables.well"
    ).to_numpy()
    layout = layout.drop_duplicates()
    twice = layout["Metadata_Well"].duplicated()
    if twice.any():
        raise UserError(
            f"tables.well gives well {layout.loc[twice, 'Metadata_Well'].iloc[0]} of {name} "
            "two compounds; correct the table."
        )

    imaged, planned = set(sites["Metadata_Well"]), set(layout["Metadata_Well"])
    if imaged - planned:
        tell(
            f"{name}: {len(imaged - planned)} imaged well(s) are not in tables.well "
            f"and get no compound ({some(imaged - planned)})"
        )
    if planned - imaged:
        tell(
            f"{name}: {len(planned - imaged)} well(s) of tables.well have no images "
            f"({some(planned - imaged)})"
        )
    unknown = layout.loc[
        ~layout["Metadata_JCP2022"].isin(compounds["Metadata_JCP2022"]), "Metadata_Well"
    ]
    if len(unknown):
        tell(f"{name}: {len(unknown)} well(s) hold no compound of the platemap ({some(unknown)})")

    index = sites.merge(layout, on="Metadata_Well", how="left", validate="many_to_one")
    index = index.merge(
        compounds[["Metadata_JCP2022", *COMPOUND_COLUMNS]],
        on="Metadata_JCP2022",
        how="left",
        validate="many_to_one",
    )
    index["Metadata_pert_type"] = index["Metadata_pert_type"].fillna("unknown")
    keys = [column for column in index if column.startswith("Key_")]
    # All plates get the same types, even one whose labels are all missing.
    return index.astype({column: "str" for column in [*TEXT, *keys]})[
        [*TEXT[:4], "Metadata_Site", *TEXT[4:], *keys]
    ]
