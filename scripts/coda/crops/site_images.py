"""The sites of a downloaded plate: their files, their pixels, and which are lost for what reason."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from coda.columns import SITE_KEYS
from coda.errors import UserError
from coda.gallery.tiff import BrokenImage, read_tiff

SITE = SITE_KEYS[2:]  # within a plate
NO_CROP = "no crop"  # status of a readable site in which no cell can be cut out


def list_sites(
    index: pd.DataFrame, manifest: pd.DataFrame, channels: Sequence[str]
) -> pd.DataFrame:
    """Join the index of a plate with the status of each downloaded object.

    Parameters
    ----------
    index
        One row per site, with ``Metadata_Well`` and ``Metadata_Site``.
    manifest
        One row an object: ``Metadata_Well``, ``Metadata_Site``, ``channel``, ``file``, ``status``
        (``"ok"`` or why not) and ``reason``.
    channels
        The channels needed.

    Returns
    -------
    pandas.DataFrame
        One row per row of `index`, in its order: well, site, ``status`` (``"ok"`` or
        that of the first object at fault), ``reason`` (names the channels at fault; None when ok),
        ``files`` (one per channel).
    """
    objects = {
        (well, int(site), channel): (file, status, reason)
        for well, site, channel, file, status, reason in zip(
            *(manifest[name] for name in [*SITE, "channel", "file", "status", "reason"]),
            strict=True,
        )
    }
    rows = []
    for well, site in zip(index["Metadata_Well"], index["Metadata_Site"], strict=True):
        faults, files = {}, []
        for channel in channels:
            absent = (None, "missing", "not in the manifest")
            file, status, reason = objects.get((well, int(site), channel), absent)
            files.append(file)
            if status != "ok":
                faults[f"{channel} {reason if isinstance(reason, str) else status}"] = status
        status = next(iter(faults.values()), "ok")
        rows.append((well, int(site), status, "; ".join(faults) or None, files))
    return pd.DataFrame(rows, columns=[*SITE, "status", "reason", "files"])


def read_site(folder: Path, files: Sequence[str], channels: Sequence[str]) -> list[np.ndarray]:
    """Decode the channels of one site.

    Returns
    -------
    list of numpy.ndarray
        One uint16 image (H, W) per channel, all of one size.

    Raises
    ------
    BrokenImage
        If an image is absent or unusable, or if the sizes differ.
    """
    images = []
    for file, channel in zip(files, channels, strict=True):
        try:
            images.append(read_tiff(folder / file))
        except FileNotFoundError:
            raise BrokenImage(f"{channel} {file} is absent") from None
        except BrokenImage as error:
            raise BrokenImage(f"{channel} {error}") from error
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        raise BrokenImage(f"its channels differ in size: {sorted(sizes)}")
    return images


def plate_name(index: pd.DataFrame) -> str:
    """Name of a plate, such as ``"source_3 JCPQC016"``."""
    if not len(index):
        raise UserError("The index of a plate has no sites.")
    return f"{index['Metadata_Source'].iloc[0]} {index['Metadata_Plate'].iloc[0]}"


def tell_lost(plate: str, sites: pd.DataFrame, max_lost: float, missing: int = 0) -> None:
    """Name each lost site in the log, and stop where a plate has lost too many, those `missing` from its tables too.

    Raises
    ------
    UserError
        If more than the share `max_lost` of the plate's sites is lost. A site without a cell is
        named but not counted: toxic compounds do that.
    """
    lost = sites[sites["status"] != "ok"]
    told = [
        f"{well} site {site}: {reason}"
        for well, site, reason in zip(*(lost[name] for name in [*SITE, "reason"]), strict=True)
    ]
    for line in told:
        print(f"{plate}: lost {line}", file=sys.stderr, flush=True)
    broken = lost["status"] != NO_CROP
    if broken.any() and broken.sum() + missing > max_lost * (len(sites) + missing):
        raise UserError(
            f"{plate} lost {broken.sum() + missing} of {len(sites) + missing} sites, more than gallery.max_lost = "
            f"{max_lost:g} allows (the first: {told[broken.argmax()]}); raise gallery.max_lost or leave the "
            "plate out."
        )
