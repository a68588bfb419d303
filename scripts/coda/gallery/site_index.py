"""The site index of a plate: which images make up each site, and what its well was treated with."""

import pandas as pd

from coda.columns import natural_order
from coda.errors import UserError
from coda.gallery.base import FetchError, Gallery
from coda.gallery.file_patterns import list_images, plate_folders
from coda.gallery.image_names import OwnImages, list_own_images
from coda.gallery.labels import PLACEHOLDERS
from coda.gallery.load_data import find_load_data, read_load_data
from coda.logs import some, tell, warn
from coda.wells import FORMATS, well_place

COMPOUND_COLUMNS = [
    "Metadata_InChIKey",
    "Metadata_pert_iname",
    "Metadata_pert_type",
    "Metadata_moa",
]
WELL_SITE = ["Metadata_Well", "Metadata_Site"]
# Microscopes name the folder of a measurement by its plate and time.
MEASUREMENT = r"^(?P<folder>.*__\d{4}-\d\d-\d\dT\d\d_\d\d_\d\d-Measurement ?\d+)/(?P<file>.*)$"
LAST_SITE = 999
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
    images: OwnImages | None = None,
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
    images
        Where the plate's images lie and how they are named, instead of a load_data.

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
        sites = (
            list_own_images(gallery, images, source, plate, channels)
            if images
            else sites_of_plate(gallery, source, batch, plate, channels, load_data)
        )
    except FetchError as error:
        raise UserError(
            f"{gallery.root} did not list the plate {name}: {error}; try again."
        ) from error
    sites["Metadata_Well"] = well_names(sites["Metadata_Well"], name)
    refuse_wells_off_plates(sites["Metadata_Well"], name)
    sites["Metadata_Site"] = site_numbers(sites["Metadata_Site"], name)
    sites = whole_sites(sites, [f"Key_{channel}" for channel in channels], name)
    sites.insert(0, "Metadata_Source", source)
    sites.insert(1, "Metadata_Batch", batch)
    sites.insert(2, "Metadata_Plate", plate)
    return add_compounds(sites, plate_layout(wells, compounds, source, plate), name)


def sites_of_plate(
    gallery: Gallery,
    source: str,
    batch: str,
    plate: str,
    channels: list[str],
    load_data: str | None,
) -> pd.DataFrame:
    """Give a plate's sites from its load_data or, if it has none, from its image folder."""
    tables = [load_data] if load_data else find_load_data(gallery, source, batch, plate)
    for key in tables:
        rows = read_load_data(gallery, key, source, channels)
        if not rows.empty:
            return rows_of_plate(rows, plate, key)
        tell(f"{key} is empty")
    parent = f"{source}/images/{batch}/images"
    folders = plate_folders(gallery.folders(parent), plate)
    if not folders:
        lacking = "an empty load_data and no" if tables else "neither a load_data nor an"
        raise UserError(
            f"The plate {source} {plate} has {lacking} image folder in "
            f"{gallery.root}/{parent}; check its batch or leave it out (exclude_plates)."
        )
    tell(f"{source} {plate} has no load_data; its sites are those of the files in {folders[-1]}")
    if len(folders) > 1:
        warn(
            f"{source} {plate} has {len(folders)} image folders; the latest is taken, "
            f"not {', '.join(folders[:-1])}"
        )
    return list_images(gallery, folders[-1], source, plate, channels)


def rows_of_plate(rows: pd.DataFrame, plate: str, key: str) -> pd.DataFrame:
    """Keep the rows of `plate` in a load_data.

    Ids are compared as they are written, then without what spreadsheets do to numbers: zeros lost in
    front, or ``.0`` behind. In the plate's own folder a table may call it as image folders do
    (`plate_folders`) throughout. Rows without an id belong to the one plate that the others name.

    Raises
    ------
    UserError
        If the table does not say which rows are the plate's.
    """
    if "Metadata_Plate" not in rows:
        return rows
    own = rows.pop("Metadata_Plate")
    names = [*own.dropna().unique()]
    if not names:
        return rows
    called = [name for name in names if name == plate] or [
        name for name in names if as_number(name) == as_number(plate)
    ]
    if not called and len(names) == 1 and plate in key.split("/"):
        called = plate_folders(names, plate)
    if len(called) != 1:
        raise UserError(
            f"{key} names the plate(s) {some(names)}, and it is not clear which rows are those of {plate}; correct its "
            "Metadata_Plate, or leave the plate out (exclude_plates)."
        )
    blank = own.isna()
    if blank.any() and len(names) > 1:
        raise UserError(
            f"{key} names {len(names)} plates ({some(names)}), and none in row {blank.idxmax() + 1}; fill in "
            "Metadata_Plate, or leave the plate out (exclude_plates)."
        )
    if blank.any():
        warn(f"{key}: {blank.sum()} row(s) without a plate are taken for rows of {plate}")
    if called != [plate]:
        warn(f"{key} calls the plate {called[0]}; it is taken for {plate}")
    others = own.index[~blank & (own != called[0])]
    if len(others):
        left = some(set(names) - set(called))
        tell(f"{key}: {len(others)} row(s) of other plates ({left}) are left out")
    return rows.drop(others)


def as_number(name: str) -> str:
    """Give an id without zeros in front and ``.0`` behind, where it is a number."""
    return name.removesuffix(".0").lstrip("0") if name.removesuffix(".0").isdecimal() else name


def well_names(wells: pd.Series, name: str) -> pd.Series:
    """Write wells as letters and at least two digits: ``a1`` and ``A001`` become ``A01``."""
    raw = pd.Series(wells.dropna().unique(), dtype=str)
    parts = raw.str.strip().str.upper().str.extract(r"^([A-Z]{1,2})0*([1-9]\d?)$")
    names = dict(zip(raw, parts[0] + parts[1].str.zfill(2), strict=True))
    clean = wells.map(names)
    if clean.isna().any():
        row = clean.isna().idxmax()
        raise UserError(
            f"Row {row + 1} of {name} has {named('well', wells[row])}; a well is written like A01."
        )
    return clean


def refuse_wells_off_plates(wells: pd.Series, name: str) -> None:
    """Refuse wells that the largest plates do not have, such as AZ99: no figure could place them."""
    for well in wells.unique():
        if any(at >= most for at, most in zip(well_place(well), FORMATS[-1], strict=True)):
            raise UserError(
                f"The table of {name} has the well {well}, but the largest plates end with AF48; correct it or leave "
                "the plate out (exclude_plates)."
            )


def site_numbers(sites: pd.Series, name: str) -> pd.Series:
    """Read sites as whole numbers; a source that counts from 0 keeps doing so."""
    numbers = pd.to_numeric(sites, errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0) | (numbers < 0) | (numbers > LAST_SITE)
    if wrong.any():
        row = wrong.idxmax()
        raise UserError(
            f"Row {row + 1} of {name} has {named('site', sites[row])}; a site is a whole number from 0 to {LAST_SITE}."
        )
    return numbers.astype("int64")


def named(kind: str, value: object) -> str:
    """Say what a cell of a table holds."""
    return f"no {kind}" if pd.isna(value) else f"the {kind} {value!r}"


def whole_sites(sites: pd.DataFrame, keys: list[str], name: str) -> pd.DataFrame:
    """Keep one row per site, only sites with an image in every channel, each image in one place."""
    lacking = sites[keys].isna().any(axis=1)
    if lacking.any():
        wells = sites.loc[lacking, "Metadata_Well"]
        warn(f"{name}: {lacking.sum()} site(s) lack a channel and are left out ({some(wells)})")
    kept = latest_measurements(sites[~lacking], keys, name)
    if kept.empty:
        raise UserError(
            f"The plate {name} has no site with an image in every channel ({', '.join(keys)}); "
            "leave it out (exclude_plates) or use fewer channels."
        )
    refuse_shared_images(kept, keys, name)
    return kept.sort_values(WELL_SITE)[[*WELL_SITE, *keys]].reset_index(drop=True)


def latest_measurements(sites: pd.DataFrame, keys: list[str], name: str) -> pd.DataFrame:
    """Keep one row of those that repeat a site: of copies any, of measurements of the plate the last.

    Raises
    ------
    UserError
        If rows of a site differ in anything else, such as plane or time.
    """
    different = sites.drop_duplicates([*WELL_SITE, *keys])
    again = different[different.duplicated(WELL_SITE, keep=False)]
    parts = [again[key].str.extract(MEASUREMENT) for key in keys]
    folders = pd.concat([part["folder"] for part in parts], axis=1)
    # Only the folder differs, and it is the same for all channels.
    alike = folders.notna().all(axis=1) & (folders.nunique(axis=1) == 1)
    for part in parts:
        alike &= (
            part["file"].groupby([again[column] for column in WELL_SITE]).transform("nunique") == 1
        )
    if not alike.all():
        first = again.loc[alike.idxmin(), WELL_SITE]
        rows = again[(again[WELL_SITE] == first).all(axis=1)].iloc[:2]
        told = [column for column in rows if column.startswith("Metadata_")]
        differ = [column for column in told if rows[column].nunique(dropna=False) > 1]
        raise UserError(
            f"{name}: rows {' and '.join(str(row + 1) for row in rows.index)} of its table name different images of "
            f"{first.iloc[0]} site {first.iloc[1]} (they differ in {', '.join(differ) or 'the images alone'}); keep "
            "the rows of one plane and time, or leave the plate out (exclude_plates)."
        )
    order = sorted(parts[0]["folder"].unique(), key=natural_order)
    ranks = parts[0]["folder"].map({folder: rank for rank, folder in enumerate(order)})
    earlier = ranks < ranks.groupby([again[column] for column in WELL_SITE]).transform("max")
    kept = different.drop(again.index[earlier])
    if len(kept) < len(sites):
        wells = sites.loc[sites.duplicated(WELL_SITE), "Metadata_Well"]
        warn(
            f"{name}: {len(sites) - len(kept)} row(s) repeat a site; "
            f"the later measurement is kept ({some(wells)})"
        )
    return kept


def refuse_shared_images(sites: pd.DataFrame, keys: list[str], name: str) -> None:
    """Refuse an image that stands for two sites or channels."""
    images = sites.melt(WELL_SITE, keys, "channel", "key")
    shared = images[images["key"].duplicated(keep=False)].sort_values("key", kind="stable")
    if len(shared):
        one, other = (
            f"{row.Metadata_Well} site {row.Metadata_Site} {row.channel.removeprefix('Key_')}"
            for row in shared.iloc[:2].itertuples()
        )
        raise UserError(
            f"{name}: {shared['key'].iloc[0]} is named as the image of {one} and of {other}; an image belongs to "
            "one site and channel, so correct the table (and save a stack of channels as a TIFF a channel), or leave "
            "the plate out (exclude_plates)."
        )


def plate_layout(
    wells: pd.DataFrame, compounds: pd.DataFrame, source: str, plate: str
) -> pd.DataFrame:
    """Give each well of a plate its compound, missing where a placeholder says that there is none.

    Parameters
    ----------
    wells, compounds
        As in `index_plate`.
    source, plate
        Which plate.

    Returns
    -------
    pandas.DataFrame
        One row per well: Metadata_Well, Metadata_JCP2022, Metadata_InChIKey, Metadata_pert_iname,
        Metadata_pert_type, Metadata_moa.

    Raises
    ------
    UserError
        If a well has two compounds.
    """
    name = f"{source} {plate}"
    layout = wells.loc[
        (wells["Metadata_Source"] == source) & (wells["Metadata_Plate"] == plate),
        ["Metadata_Well", "Metadata_JCP2022"],
    ].reset_index(drop=True)
    layout["Metadata_Well"] = well_names(layout["Metadata_Well"], f"{name} in tables.well")
    layout = layout.drop_duplicates()
    twice = layout["Metadata_Well"].duplicated()
    if twice.any():
        raise UserError(
            f"tables.well gives well {layout.loc[twice, 'Metadata_Well'].iloc[0]} of {name} "
            "two compounds; correct the table."
        )
    known = ~layout["Metadata_JCP2022"].isin(PLACEHOLDERS)
    layout["Metadata_JCP2022"] = layout["Metadata_JCP2022"].where(known)
    return layout.merge(
        compounds[["Metadata_JCP2022", *COMPOUND_COLUMNS]].dropna(subset="Metadata_JCP2022"),
        on="Metadata_JCP2022",
        how="left",
        validate="many_to_one",
    )


def add_compounds(sites: pd.DataFrame, layout: pd.DataFrame, name: str) -> pd.DataFrame:
    """Add each well's compound; say which wells have none, and why."""
    unplanned = set(sites["Metadata_Well"]) - set(layout["Metadata_Well"])
    if unplanned:
        warn(
            f"{name}: {len(unplanned)} imaged well(s) are not in the table of wells "
            f"and get no compound ({some(unplanned)})"
        )
    known = layout["Metadata_JCP2022"].notna()
    if not known.all():
        wells = layout.loc[~known, "Metadata_Well"]
        tell(f"{name}: {len(wells)} well(s) are empty or of an unknown compound ({some(wells)})")
    wells = layout.loc[known & layout["Metadata_pert_type"].isna(), "Metadata_Well"]
    if len(wells):
        tell(f"{name}: {len(wells)} well(s) hold no compound of the platemap ({some(wells)})")
    index = sites.merge(layout, on="Metadata_Well", how="left", validate="many_to_one")
    index["Metadata_pert_type"] = index["Metadata_pert_type"].fillna("unknown")
    keys = [column for column in index if column.startswith("Key_")]
    # All plates get the same types, even one whose labels are all missing.
    return index.astype({column: "str" for column in [*TEXT, *keys]})[
        [*TEXT[:4], "Metadata_Site", *TEXT[4:], *keys]
    ]


def judge_missing(
    index: pd.DataFrame, layout: pd.DataFrame, max_lost: float, sites_per_well: int | None = None
) -> int:
    """Say which sites of planned wells are not in a plate's tables, or refuse the plate if they are too many.

    A load_data that was cut at the end of a line looks whole; that wells of the layout are not in it tells.
    How many sites a well should have is what most wells have.

    Parameters
    ----------
    index
        As from `index_plate`.
    layout
        As from `plate_layout`, of the wells that the run chooses; those without a compound need no images.
    max_lost
        Share of the sites, 0 to 1, that may be lost.
    sites_per_well
        How many sites of a well are used; all by default.

    Returns
    -------
    int
        How many are missing.

    Raises
    ------
    UserError
        If more are missing.
    """
    name = " ".join(index.loc[0, ["Metadata_Source", "Metadata_Plate"]])
    counts = index.groupby("Metadata_Well").size()
    usual = min(int(counts.mode().max()), sites_per_well or len(index))
    planned = layout.loc[layout["Metadata_JCP2022"].notna(), "Metadata_Well"]
    lost = usual - counts.reindex(planned).fillna(0).clip(upper=usual)
    if not lost.any():
        return 0
    told = (
        f"{name}: the tables have no images of {int(lost.sum())} of {usual * len(planned)} planned sites "
        f"(wells {some(lost.index[lost > 0])})"
    )
    if lost.sum() > max_lost * usual * len(planned):
        raise UserError(
            f"{told}. That is more than gallery.max_lost = {max_lost:g} allows: complete its images or load_data, take "
            "the wells out of its layout or platemap, leave the plate out (exclude_plates) or raise gallery.max_lost."
        )
    warn(told)
    return int(lost.sum())
