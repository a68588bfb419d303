"""Own images: which well, site and channel each file of a folder shows, as its name says."""

import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from coda.columns import natural_order
from coda.errors import UserError, did_you_mean
from coda.gallery.base import Gallery
from coda.gallery.planes import channels_within, plane_key
from coda.logs import some, tell, warn
from coda.wells import FORMATS, row_letters, well_place

# What a pattern can hold, and what it stands for.
PARTS = {
    "well": r"[A-Za-z]{1,2}\d{1,3}",
    "row": r"[A-Za-z]{1,2}|\d{1,2}",
    "column": r"\d{1,3}",
    "site": r"\d+",
    "channel": r"[^/]+?",
    "plane": r"\d+",
    "time": r"\d+",
    "plate": r"[^/]+?",
}
# The usual exports. A prefix is what they write before the well, often the plate.
EXPORTS = {
    # Opera, Opera Phenix and Operetta (Harmony, Columbus): r01c02f03p01-ch1sk1fk1fl1.tiff
    "opera": (
        r"r(?P<row>\d{2})c(?P<column>\d{2})f(?P<site>\d+)p(?P<plane>\d+)(?:rc\d+)?"
        r"-ch(?P<channel>\d+)(?:sk(?P<time>\d+)fk\d+fl\d+)?\.tiff?"
    ),
    # ImageXpress (MetaXpress): [TimePoint_1/][ZStep_1/]name_A01_s1_w1[GUID].tif
    "imagexpress": (
        r"(?:TimePoint_(?P<time>\d+)/)?(?:ZStep_(?P<plane>\d+)/)?(?:(?P<prefix>[^/]+?)_)?"
        r"(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<site>\d+))?_w(?P<channel>\d)"
        r"(?:[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})?\.tiff?"
    ),
    # CellVoyager CV7000 and CV8000: name_A01_T0001F001L01A01Z01C01.tif
    "yokogawa": (
        r"(?:(?P<prefix>[^/]+?)_)?(?P<well>[A-Z]{1,2}\d{2})_T(?P<time>\d{4})F(?P<site>\d{3,4})"
        r"L\d+A\d+Z(?P<plane>\d+)C(?P<channel>\d+)\.tiff?"
    ),
    # IN Cell Analyzer: A - 01(fld 1 wv DAPI - DAPI z 1 time 1 - 0 ms).tif
    "incell": (
        r"(?P<row>[A-Z]{1,2}) ?- ?(?P<column>\d{1,2})\(fld ?(?P<site>\d+) wv (?P<channel>[^/]+?)"
        r"(?: z (?P<plane>\d+))?(?: time (?P<time>\d+)[^/)]*)?\)\.tiff?"
    ),
}
SECONDS = 60  # for names that take milliseconds in earnest
TIFF = re.compile(r".*\.tiff?", re.IGNORECASE)
OME = re.compile(r".*\.ome\.tiff?", re.IGNORECASE)
THUMBNAIL = re.compile(r"(?:.*/)?[^/]*thumb[^/]*", re.IGNORECASE)
PLACE = ["well", "site", "channel"]


@dataclass(frozen=True)
class OwnImages:
    """Where the images of a plate lie and how they are named.

    Attributes
    ----------
    folder
        Below the gallery's root; "" for the root itself.
    pattern
        One of `EXPORTS`; a name with parts in braces (`PARTS`) and ``*`` for anything, such as
        ``{well}_s{site}_w{channel}.tif``; or a regular expression with groups of those names. It describes as
        many parts of the path as it has. None to recognise the export.
    plane, time
        Which to take where an image has several; None where it has one.
    tokens
        How names of files call the channels of the config; others are called as they are.
    """

    folder: str = ""
    pattern: str | None = None
    plane: int | None = None
    time: int | None = None
    tokens: dict[str, str] = field(default_factory=dict)


def own_images(place: dict[str, str], tokens: dict[str, str | int]) -> OwnImages | None:
    """Give what the row of a sample sheet says of a plate's images; None where it has a load_data.

    Raises
    ------
    UserError
        If the plane or time is no whole number.
    """
    if not place.keys() & {"images", "pattern"}:
        return None
    chosen = {name: place[name] for name in ("plane", "time") if name in place}
    for name, value in chosen.items():
        if not value.removesuffix(".0").isdecimal():
            raise UserError(
                f"The sample sheet says {name} {value!r}; a {name} is a whole number, as in the names of the files."
            )
    numbers = {name: int(value.removesuffix(".0")) for name, value in chosen.items()}
    folder = place.get("images", "").strip("/")
    written = {channel: str(token) for channel, token in tokens.items()}
    return OwnImages(folder, place.get("pattern"), **numbers, tokens=written)


def list_own_images(
    gallery: Gallery, images: OwnImages, source: str, plate: str, channels: Sequence[str]
) -> pd.DataFrame:
    """List a plate's images: one row per site, as the names of its files say.

    What is found is told. TIFF files that could not be placed are warned of.

    Parameters
    ----------
    gallery
        Where the images lie.
    images
        Folder and naming.
    source, plate
        Whose images they are.
    channels
        Names of the channels wanted.

    Returns
    -------
    pandas.DataFrame
        Metadata_Well, Metadata_Site and a column ``Key_<channel>`` per channel, missing where a site
        has no such image.

    Raises
    ------
    UserError
        If the pattern cannot be right, no file fits it, a channel is in none of the names, or an image is
        there twice.
    """
    where = f"{gallery.root}/{images.folder}".rstrip("/")
    parent = f"{images.folder}/" if images.folder else ""
    names = sorted(entry.key.removeprefix(parent) for entry in gallery.entries(images.folder))
    if not names:
        raise UserError(
            f"The folder {where} of {source} {plate} is absent or empty; correct root and images in the sample sheet."
        )
    pattern = images.pattern or recognised(names, where)
    placed = place_names(names, pattern, plate)
    tell_unplaced(names, placed, pattern, where)
    placed = of_one_prefix(placed, plate, where)
    for axis in ("plane", "time"):
        placed = of_one(placed, axis, getattr(images, axis), f"{source} {plate}")
    if "channel" not in placed:
        placed = channels_of_files(gallery, placed, parent)
    else:
        placed["key"] = parent + placed["name"]
    placed["channel"] = named_channels(placed, images.tokens, channels, source, plate)
    placed = placed[placed["channel"].notna()]
    refuse_copies(placed, f"{source} {plate}")
    sites = placed.pivot(index=["well", "site"], columns="channel", values="key")
    return (
        sites.reindex(columns=list(channels))
        .add_prefix("Key_")
        .rename_axis(columns=None)
        .reset_index()
        .rename(columns={"well": "Metadata_Well", "site": "Metadata_Site"})
    )


def recognised(names: Sequence[str], where: str) -> str:
    """Give the export that files are named by.

    Raises
    ------
    UserError
        If they are named by none, or by several.
    """
    counts = {export: len(matches(names, regular(export, None))) for export in EXPORTS}
    found = {export: count for export, count in counts.items() if count}
    if not found:
        example = next(filter(TIFF.fullmatch, names), names[0])
        raise UserError(
            f"The files in {where} are named like none of the exports known here ({', '.join(EXPORTS)}), for example "
            f"{example}; say in the column pattern of the sample sheet where well, site and channel stand, such as "
            "{well}_s{site}_w{channel}.tif."
        )
    if len(found) > 1:
        told = " and ".join(f"{count} like {export}" for export, count in found.items())
        raise UserError(
            f"The files in {where} are named in several ways ({told}); name the right one in the column pattern of the "
            "sample sheet, or the folder of the images in the column images."
        )
    tell(f"{where}: files are named as {next(iter(found))} exports them")
    return next(iter(found))


def regular(pattern: str, plate: str | None) -> re.Pattern[str]:
    """Compile a pattern, see `OwnImages`, for one plate or for any.

    Raises
    ------
    UserError
        If it is none of the three, has unknown parts, or does not tell wells.
    """
    said = f"The pattern {pattern!r} of the sample sheet"
    if pattern.lower() in EXPORTS:
        return re.compile(f"(?:.*?/)??{EXPORTS[pattern.lower()]}", re.IGNORECASE)
    if "(?P<" in pattern:
        try:
            compiled = re.compile(f"(?:.*?/)??(?:{pattern})")
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(f"{said} is no regular expression: {error}.") from None
        names = set(compiled.groupindex)
        if unknown := sorted(names - set(PARTS)):
            hint = did_you_mean(unknown[0], PARTS, f"; known are {', '.join(PARTS)}.")
            raise UserError(f"{said} has the unknown group {unknown[0]}{hint}")
    else:
        names, compiled = set(), re.compile(f"(?:.*?/)??{template(pattern, plate)}", re.IGNORECASE)
        names = set(re.findall(r"\{(\w+)\}", pattern))
    if "well" not in names and not {"row", "column"} <= names:
        raise UserError(
            f"{said} does not say where the well stands; it needs {{well}} (or {{row}} and {{column}}), or is one of "
            f"{', '.join(EXPORTS)}."
        )
    return compiled


def template(pattern: str, plate: str | None) -> str:
    """Turn a name with parts in braces into a regular expression."""
    written, seen = [], set()
    for part in re.split(r"(\{[^{}]*\}|\*)", pattern.strip("/")):
        name = part[1:-1] if part.startswith("{") else None
        if part == "*":
            written.append("[^/]*")
        elif name is None:
            written.append(re.escape(part))
        elif name not in PARTS:
            hint = did_you_mean(name, PARTS, f"; known are {', '.join(PARTS)}.")
            raise UserError(
                f"The pattern {pattern!r} of the sample sheet has an unknown part {part}{hint}"
            )
        elif name in seen:
            written.append(f"(?P={name})")
        else:
            stands_for = re.escape(plate) if name == "plate" and plate else PARTS[name]
            written.append(f"(?P<{name}>{stands_for})")
            seen.add(name)
    return "".join(written)


def matches(names: Sequence[str], pattern: re.Pattern[str]) -> list[dict[str, str | None]]:
    """Give the groups of each name that fits, with the name.

    Raises
    ------
    UserError
        If that takes longer than `SECONDS`, as repeats within repeats do.
    """

    def give_up(*_: object) -> None:
        raise UserError(
            f"The pattern {pattern.pattern!r} of the sample sheet takes more than {SECONDS} s to compare with the "
            f"names of {len(names)} files; write it without repeats within repeats."
        )

    in_time = threading.current_thread() is threading.main_thread()  # which alone hears the clock
    if in_time:
        before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = ((name, pattern.fullmatch(name)) for name in names)
        return [{"name": name} | match.groupdict() for name, match in found if match]
    finally:
        if in_time:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def place_names(names: Sequence[str], pattern: str, plate: str | None) -> pd.DataFrame:
    """Tell well, site and channel of each name that fits a pattern and belongs to a plate.

    Parameters
    ----------
    names
        Paths of files below the folder of the images.
    pattern
        See `OwnImages`.
    plate
        The plate's id; None for any plate.

    Returns
    -------
    pandas.DataFrame
        A row per file but thumbnails: ``name``, ``well`` (like A01), ``site`` (int64; 1 where names have none), as the
        pattern has them ``channel`` (numbers without zeros in front), ``plane`` and ``time`` (as numbers, missing
        where a name has none) and ``prefix``.
    """
    rows = []
    names = [name for name in names if not THUMBNAIL.fullmatch(name)]
    for found in matches(names, regular(pattern, plate)):
        well, owner = well_of(found), found.pop("plate", plate)
        if well is None or (plate and owner != plate) or found.get("channel", "") is None:
            continue
        for axis in ("site", "plane", "time"):
            number = found.get(axis)
            if number and not number.isdecimal():
                raise UserError(
                    f"The pattern {pattern!r} of the sample sheet takes {number!r} in {found['name']} for the {axis}, "
                    "which is a whole number; make it narrower."
                )
        found["site"] = int(found.get("site") or 1)
        if "channel" in found:
            found["channel"] = token(found["channel"])
        for axis in {"plane", "time"} & found.keys():
            found[axis] = int(found[axis]) if found[axis] else None
        rows.append(found | {"well": well})
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["name", *PLACE])


def well_of(found: dict[str, str | None]) -> str | None:
    """Give the well of a name's groups as it is usually written; None where no plate has it."""
    if "well" in found:
        letters, number = re.fullmatch(r"([^\d]*)(.*)", found["well"] or "", re.DOTALL).groups()
    else:
        letters, number = found.pop("row") or "", found.pop("column") or ""
        if letters.isdecimal():
            letters = row_letters(int(letters) - 1) if 0 < int(letters) <= FORMATS[-1][0] else ""
    if not re.fullmatch("[A-Za-z]{1,2}", letters) or not number.isdecimal():
        return None
    if not 0 < int(number) <= FORMATS[-1][1]:
        return None
    well = f"{letters.upper()}{int(number):02d}"
    return well if well_place(well)[0] < FORMATS[-1][0] else None


def token(text: str) -> str:
    """Write the channel of a name, or of the config, one way: ``01`` as ``1``.

    >>> token("01"), token("DAPI - DAPI")
    ('1', 'DAPI - DAPI')
    """
    text = text.strip()
    return (text.lstrip("0") or "0") if text.isdecimal() else text


def tell_unplaced(names: Sequence[str], placed: pd.DataFrame, pattern: str, where: str) -> None:
    """Say which files could not be placed; refuse a pattern that no file fits."""
    left = sorted(set(names) - set(placed["name"]))
    if placed.empty:
        example = next(filter(TIFF.fullmatch, left), left[0])
        raise UserError(
            f"None of the {len(names)} files in {where} fits the pattern {pattern!r}, for example not {example}; "
            "correct the pattern, plate or folder in the sample sheet."
        )
    tell(f"{where}: {len(placed)} of {len(names)} files are images by the pattern {pattern!r}")
    elsewhere = set(place_names(left, pattern, None)["name"])
    small = {name for name in left if THUMBNAIL.fullmatch(name)}
    tiffs = {name for name in left if TIFF.fullmatch(name)} - elsewhere - small
    for kind, found in (
        ("file(s) are images of other plates", elsewhere),
        ("thumbnail(s) are left out", small - elsewhere),
        ("other file(s) are left out", set(left) - elsewhere - small - tiffs),
    ):
        if found:
            tell(f"{where}: {len(found)} {kind} ({some(found, 3)})")
    if tiffs:
        warn(
            f"{where}: {len(tiffs)} TIFF file(s) do not fit the pattern {pattern!r} and are left out "
            f"({some(tiffs, 3)})"
        )


def of_one_prefix(placed: pd.DataFrame, plate: str, where: str) -> pd.DataFrame:
    """Keep the files that are named by the plate, where they begin with different names."""
    prefixes = {prefix or "" for prefix in placed.get("prefix", [])}
    if len(prefixes) < 2:
        return placed
    if plate not in prefixes:
        raise UserError(
            f"The names of the files in {where} begin in {len(prefixes)} ways ({some(prefixes)}), none of them the "
            f"plate {plate}; name its folder in the column images of the sample sheet, or give a pattern."
        )
    tell(f"{where}: files of other plates are left out ({some(prefixes - {plate})})")
    return placed[placed["prefix"] == plate]


def of_one(placed: pd.DataFrame, axis: str, wanted: int | None, name: str) -> pd.DataFrame:
    """Keep the images of the plane or time wanted; refuse several of an image where none is."""
    if wanted is None:
        if axis not in placed:
            return placed
        place = [column for column in PLACE if column in placed]
        counts = placed.groupby(place)[axis].nunique()
        if (counts <= 1).all():
            return placed
        first = counts.idxmax()
        rows = (placed[place] == list(first)).all(axis=1)
        found = sorted({int(number) for number in placed.loc[rows, axis].dropna()})
        raise UserError(
            f"{name} has several images of {' '.join(map(str, first))} (well, site, channel): {axis}s "
            f"{', '.join(map(str, found))}; say which one to take in the column {axis} of the sample sheet."
        )
    numbers = placed[axis].dropna().astype(int) if axis in placed else pd.Series(dtype=int)
    if not (numbers == wanted).any():
        found = ", ".join(map(str, sorted(set(numbers)))) or "none"
        raise UserError(
            f"The sample sheet asks for {axis} {wanted} of {name}, but the names of its files have {found}."
        )
    return placed[placed[axis] == wanted]


def channels_of_files(gallery: Gallery, placed: pd.DataFrame, parent: str) -> pd.DataFrame:
    """Give a row a channel of files that hold several; what they hold is read from the first.

    Raises
    ------
    UserError
        If the files are no OME-TIFFs, or do not say which page is which channel.
    """
    plain = placed.loc[~placed["name"].str.fullmatch(OME.pattern, case=False), "name"]
    if len(plain):
        raise UserError(
            f"{plain.iloc[0]} names no channel: the pattern needs {{channel}}, unless files are OME-TIFFs (.ome.tif) "
            "of several channels."
        )
    tokens = channels_within(gallery, parent + placed["name"].iloc[0])
    tell(f"{parent}{placed['name'].iloc[0]} holds the channels {', '.join(tokens)}")
    return pd.concat(
        placed.assign(
            channel=one, key=[plane_key(parent + name, one) for name in placed["name"]]
        )
        for one in tokens
    )  # fmt: skip


def named_channels(
    placed: pd.DataFrame,
    tokens: dict[str, str],
    channels: Sequence[str],
    source: str,
    plate: str,
) -> pd.Series:
    """Give each image the config's name of its channel, missing where it is none of them.

    Raises
    ------
    UserError
        If a channel is that of no image, or two are the same.
    """
    found = sorted(placed["channel"].unique(), key=natural_order)
    by_case = {one.lower(): one for one in found}
    names: dict[str, str] = {}
    for channel in channels:
        wanted = token(tokens.get(channel, channel)).lower()
        # w1, ch1 and C01 are what the exports call a channel that their names number.
        number = re.fullmatch(r"(?:w|ch|c)0*(\d+)", wanted)
        one = by_case.get(wanted) or (by_case.get(number[1]) if number else None)
        if one is None:
            # The example is none that another stain is said to have.
            taken = {token(name).lower() for name in tokens.values()}
            free = next((name for name in found if name.lower() not in taken), found[0])
            raise UserError(
                f"No image of {source} {plate} is of the channel {channel}"
                + (f" ({tokens[channel]})" if channel in tokens else "")
                + f"; its files have the channels {', '.join(found)}. Say under sources.{source}.channels which is "
                f"which, such as {{{channel}: {free!r}}}."
            )
        if one in names:
            raise UserError(
                f"sources.{source}.channels gives {names[one]} and {channel} the same channel {one}; correct one."
            )
        names[one] = channel
    if unused := [one for one in found if one not in names]:
        tell(f"{source} {plate}: images of other channels are left out ({', '.join(unused)})")
    return placed["channel"].map(names)


def refuse_copies(placed: pd.DataFrame, name: str) -> None:
    """Refuse two images of a well, site and channel."""
    again = placed[placed.duplicated(PLACE, keep=False)].sort_values([*PLACE, "name"])
    if len(again):
        one, other = again.iloc[0], again.iloc[1]
        raise UserError(
            f"{name} has two images of {one['well']} site {one['site']} {one['channel']}, {one['name']} and "
            f"{other['name']}; name the folder of the right measurement in the column images of the sample sheet, or "
            "make the pattern narrower."
        )
