"""Where to cut: the centre, a grid, or the nuclei of single cells."""

import io
import os
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from coda.errors import UserError
from coda.quality import DISTINCT

UM_PER_PIXEL = 0.65  # where it is unknown; microscopes of JUMP have 0.598 to 0.703
SMOOTHING = 1.8  # um; smooths chromatin and noise away, keeps neighbours apart
APART = 3.0  # um between the middles of two nuclei, at least
SMALLEST_NUCLEUS = 40.0  # square um, 7 um across
NUCLEI = ["Metadata_Well", "Metadata_Site", "Y", "X"]


def centre_corner(shape: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Top and left pixel of the central crop; odd margins as in torchvision's CenterCrop."""
    return [tuple(round((side - size) / 2) for side in shape)]


def grid_corners(shape: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Top and left pixels of a grid that covers the image, row by row.

    As in DeepProfiler's ``full_image`` mode, as few crops as cover a side stand at equal distances
    and overlap where the side is no multiple of the size.
    """
    tops, lefts = (
        np.linspace(0, side - size, -(-side // size)).round().astype(int).tolist() for side in shape
    )
    return [(top, left) for top in tops for left in lefts]


def cell_corners(
    centres: np.ndarray, factor: float, shape: tuple[int, int], size: int
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Top and left pixels of crops around nuclei; crops that cross the border are left out.

    Crops are exact cuts of pixels: the crop's pixel ``size / 2`` is the pixel of the nucleus's
    centre. DeepProfiler hands boxes divided by the image's side to TensorFlow's
    ``crop_and_resize``, which takes 0 to 1 as the first to the last pixel's centre: with box start
    ``y``, side ``H`` and crop size ``s`` its sample ``i`` lies at
    ``(y + i s / (s - 1)) (H - 1) / H`` instead of ``y + i``. Its crops are thus interpolated, and
    shifted by ``i (H - s) / (H (s - 1)) - y / H``, which depends on the place and reaches
    ``(H - s) / H``, just under a pixel, at the border. It also pads crops that cross the border
    with zeros.

    Parameters
    ----------
    centres
        Centres of nuclei (n, 2), y and x in pixels of the raw image.
    factor
        Size of the resized image over that of the raw one.
    shape
        Height and width of the resized image.
    size
        Height and width of a crop.

    Returns
    -------
    corners : list of tuple of int
        Top and left pixel of each crop, in the resized image.
    kept : numpy.ndarray
        Which of `centres` have one, bool (n,).
    """
    centres = np.asarray(centres, dtype=np.float64).reshape(-1, 2)
    corners = np.floor((centres + 0.5) * factor).astype(int) - size // 2
    kept = ((corners >= 0) & (corners + size <= np.array(shape))).all(axis=1)
    return [tuple(corner) for corner in corners[kept].tolist()], kept


def segment_nuclei(image: np.ndarray, um_per_pixel: float | None = None) -> np.ndarray:
    """Find nuclei in a raw DNA image: Otsu's threshold, then a watershed on the distance map.

    Parameters
    ----------
    image
        Grey values (H, W).
    um_per_pixel
        Pixel size; `UM_PER_PIXEL` where unknown.

    Returns
    -------
    numpy.ndarray
        Centres (n, 2), y and x in pixels, from top to bottom.
    """
    um = um_per_pixel or UM_PER_PIXEL
    smooth = gaussian(image.astype(np.float32), SMOOTHING / um, preserve_range=True)
    mask = smooth > threshold_otsu(smooth)
    # Of an image of noise the threshold makes two halves that hardly differ.
    if (
        not mask.any()
        or smooth[mask].mean() - smooth[~mask].mean() < DISTINCT * smooth[~mask].std()
    ):
        return np.empty((0, 2))
    distance = gaussian(ndimage.distance_transform_edt(mask), 1.0, preserve_range=True)
    peaks = peak_local_max(
        distance, min_distance=max(1, round(APART / um)), labels=ndimage.label(mask)[0]
    )
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, seeds, mask=mask)
    sizes = np.bincount(labels.ravel(), minlength=len(peaks) + 1)
    large = np.flatnonzero(sizes[1:] * um**2 >= SMALLEST_NUCLEUS) + 1
    centres = np.array(ndimage.center_of_mass(mask, labels, large)).reshape(-1, 2)
    return centres[np.lexsort(centres.T[::-1])]


def parse_group(folder: str, plate: str) -> tuple[str | None, int | None]:
    """Well and site of an analysis folder's name; None where the folder holds all of them.

    Sources name these folders ``<plate>-<well>-<site>``, ``<plate>-<well>``, ``<well>`` or
    ``<plate>``.

    Examples
    --------
    >>> parse_group("BR00121431-A02-1", "BR00121431")
    ('A02', 1)
    >>> parse_group("B07", "Dest210531-152149")
    ('B07', None)
    """
    rest = folder.removeprefix(plate).strip("-_")
    match = re.fullmatch(r"(?:([A-Za-z]{1,2})(\d{1,2})(?:-(\d+))?)?", rest)
    if match is None:
        raise UserError(
            f"The analysis folder {folder} of plate {plate} names neither well nor site."
        )
    row, column, site = match.groups()
    well = f"{row.upper()}{int(column):02d}" if row else None
    return well, int(site) if site else None


def read_nuclei(
    nuclei: str | os.PathLike | bytes,
    folder: str,
    plate: str,
    image: str | os.PathLike | bytes | None = None,
) -> pd.DataFrame:
    """Read the gallery's nuclei of one analysis folder.

    ``Nuclei.csv`` has no ``Metadata_`` columns, and its ``ImageNumber`` counts through the plate,
    so wells and sites come from the folder's name or from the ``Image.csv`` beside it.

    Parameters
    ----------
    nuclei
        Path or content of ``Nuclei.csv``.
    folder
        Name of the folder it lies in.
    plate
        The plate.
    image
        Path or content of ``Image.csv``; needed where the folder holds several sites.

    Returns
    -------
    pandas.DataFrame
        ``Metadata_Well``, ``Metadata_Site``, ``Y`` and ``X`` (pixels), one row a nucleus.

    Raises
    ------
    UserError
        If a column is missing or `image` is needed and absent.
    """
    well, site = parse_group(folder, plate)
    columns = {"Location_Center_X": "X", "Location_Center_Y": "Y"}
    table = _read(nuclei, ["ImageNumber", *columns], f"Nuclei.csv of {folder}").rename(
        columns=columns
    )
    if site is not None:
        table["Metadata_Well"], table["Metadata_Site"] = well, site
        return table[NUCLEI]
    if image is None:
        raise UserError(
            f"Nuclei.csv of {folder} holds several sites, so the Image.csv beside it is needed to "
            "tell them apart; without it set crops.kind to centre or grid."
        )
    names = ["ImageNumber", "Metadata_Well", "Metadata_Site"]
    sites = _read(image, names, f"Image.csv of {folder}").drop_duplicates("ImageNumber")
    sites["Metadata_Well"] = [parse_group(str(name), "")[0] for name in sites["Metadata_Well"]]
    sites["Metadata_Site"] = sites["Metadata_Site"].astype(int)
    table = table.merge(sites, on="ImageNumber", how="left", validate="m:1")
    unknown = table["Metadata_Site"].isna().sum()
    if unknown:
        raise UserError(f"Image.csv of {folder} lacks the image numbers of {unknown} nuclei.")
    return table.astype({"Metadata_Site": int})[NUCLEI]


def _read(table: str | os.PathLike | bytes, columns: Sequence[str], name: str) -> pd.DataFrame:
    """Read some columns of a CSV of which the gallery keeps hundreds, gigabytes per plate."""
    source = io.BytesIO(table) if isinstance(table, bytes) else table
    text = {"Metadata_Well": str}
    try:
        return pd.read_csv(source, usecols=list(columns), dtype=text)[list(columns)]
    except FileNotFoundError:
        raise UserError(f"{name} does not exist at {table}.") from None
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise UserError(f"{name} cannot be read: {error}.") from error
