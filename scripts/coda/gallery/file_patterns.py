"""How each source names its images: from which a plate's sites are read if it has no load_data."""

import re
from dataclasses import dataclass

import pandas as pd

from coda.errors import UserError
from coda.gallery.base import Gallery
from coda.logs import some, warn
from coda.wells import row_letters

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")

# Only the first time point, plane and depth: the other planes are bright field.
PHENIX = r"r(?P<row>\d{2})c(?P<column>\d{2})f(?P<site>\d+)p01-ch(?P<channel>\d+)sk1fk1fl1\.tiff?"
YOKOGAWA = (
    r"(?:P\d+_)?{plate}_(?P<well>[A-Z]{1,2}\d{2})_T0001F(?P<site>\d+)"
    r"L01A\d+Z01C(?P<channel>\d+)\.tiff?"
)
# A GUID follows the channel; in thumbnails the word thumb stands between.
IMAGEXPRESS = (
    r"HTS_(?P<well>[A-Z]{1,2}\d{2})_s(?P<site>\d+)_w(?P<channel>\d)"
    r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\.tiff?"
)


@dataclass(frozen=True)
class ImageNaming:
    """How a source names its images.

    Attributes
    ----------
    pattern
        Regular expression of a whole file name, ``{plate}`` standing for the plate.
    numbers
        Channel numbers in the order of `CHANNELS`.
    subfolder
        Folder of the images within the plate's folder, with its closing slash, or "".
    first_site
        Number in JUMP's tables of the site that the file names call 1.
    """

    pattern: str
    numbers: tuple[int, int, int, int, int]
    subfolder: str = ""
    first_site: int = 1


NAMINGS = {
    "source_1": ImageNaming(PHENIX, (4, 1, 2, 5, 3), "Images/"),
    "source_2": ImageNaming(YOKOGAWA, (1, 2, 3, 4, 5)),
    "source_3": ImageNaming(PHENIX, (5, 4, 3, 2, 1), "Images/"),
    "source_4": ImageNaming(PHENIX, (5, 4, 3, 2, 1), "Images/"),
    "source_5": ImageNaming(YOKOGAWA, (1, 2, 3, 4, 5)),
    "source_6": ImageNaming(YOKOGAWA, (1, 2, 3, 4, 5)),
    "source_7": ImageNaming(YOKOGAWA, (1, 4, 3, 5, 2), first_site=0),
    "source_8": ImageNaming(IMAGEXPRESS, (5, 4, 3, 2, 1), "Images/"),
    "source_9": ImageNaming(PHENIX, (4, 1, 5, 3, 2), "Images/"),
    "source_10": ImageNaming(YOKOGAWA, (1, 2, 3, 4, 5)),
    "source_11": ImageNaming(PHENIX, (1, 2, 4, 3, 5), "Images/"),
    "source_13": ImageNaming(YOKOGAWA, (1, 4, 3, 5, 2), first_site=0),
}


def image_naming(source: str) -> ImageNaming:
    """Give the naming of a source.

    Raises
    ------
    UserError
        If it is not known; source_15's channel numbers are not known for certain.
    """
    try:
        return NAMINGS[source]
    except KeyError:
        raise UserError(
            f"How {source} names its images is not known, so its plates need a load_data table; "
            f"known are {', '.join(NAMINGS)}."
        ) from None


def plate_folders(folders: list[str], plate: str) -> list[str]:
    """Give those of `folders` that hold images of `plate`, the latest measurement last.

    A folder is called like the plate, perhaps with ``P01_`` before it, ``real-...`` or
    ``__<time>-Measurement1`` behind it. Of several, the one marked real counts as the latest, then
    the one with the later time or, at the same time, the higher number.
    """
    name = re.compile(rf"(?:P\d+_)?{re.escape(plate)}(?P<real>real-.*?)?(?:__.*)?")
    found = [
        (folder, match)
        for folder in folders
        if (match := name.fullmatch(folder.rpartition("/")[2]))
    ]
    found.sort(
        key=lambda pair: (
            pair[1]["real"] is not None,
            [int(number) for number in re.findall(r"\d+", pair[1][0])],
        )
    )
    return [folder for folder, _ in found]


def list_images(
    gallery: Gallery, folder: str, source: str, plate: str, channels: list[str]
) -> pd.DataFrame:
    """List a plate's images: one row per site, as its file names say.

    Parameters
    ----------
    gallery
        Where the images lie.
    folder
        The plate's folder, a key without closing slash.
    source, plate
        Whose images they are.
    channels
        Names from `CHANNELS`.

    Returns
    -------
    pandas.DataFrame
        Metadata_Well, Metadata_Site and a column ``Key_<channel>`` per channel, missing where a site
        has no such image.

    Raises
    ------
    UserError
        If a channel is not known, or no file is named as the source names its images.
    """
    naming = image_naming(source)
    unknown = [channel for channel in channels if channel not in CHANNELS]
    if unknown:
        raise UserError(
            f"channels names {', '.join(unknown)}, which the file names of {source} {plate} do not say; "
            f"known are {', '.join(CHANNELS)}."
        )
    parent = f"{folder}/{naming.subfolder}"
    # In order, so that of two images of a site and channel the same stays wherever they lie.
    names = pd.Series(
        sorted(entry.key.removeprefix(parent) for entry in gallery.entries(parent)), dtype=str
    )
    pattern = naming.pattern.replace("{plate}", re.escape(plate))
    images = names.str.extract(rf"^{pattern}$").assign(key=parent + names).dropna(subset="site")
    if images.empty:
        raise UserError(
            f"The plate {source} {plate} has no load_data and {parent} holds no image named as "
            f"{source} names them; add the load_data or leave the plate out (exclude_plates)."
        )
    if "well" not in images:
        rows = images["row"].astype(int) - 1
        images["well"] = rows.map(row_letters) + images["column"]
    names_of = dict(zip(naming.numbers, CHANNELS, strict=True))
    images["channel"] = images["channel"].astype(int).map(names_of)
    images["site"] = images["site"].astype(int) - 1 + naming.first_site
    images = images[images["channel"].isin(channels)]
    again = images.duplicated(["well", "site", "channel"], keep="last")
    if again.any():
        warn(
            f"{source} {plate}: {again.sum()} image(s) in {parent} have another of their site and channel; the last by "
            f"name is taken ({some(images.loc[again, 'well'])})"
        )
    images = images[~again]
    sites = images.pivot(index=["well", "site"], columns="channel", values="key").reindex(
        columns=channels
    )
    return (
        sites.add_prefix("Key_")
        .rename_axis(columns=None)
        .reset_index()
        .rename(columns={"well": "Metadata_Well", "site": "Metadata_Site"})
    )
