"""Images that are the same to the pixel though their files have other names: copied tables, folders or channels."""

import hashlib

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS, SITE_KEYS

CHECKSUM = "Checksum_"
# What two places of one image can be, from the nearest to the farthest.
CROPS, CHANNELS, SITES, PLATES = KINDS = ("two crops", "two channels", "two sites", "two plates")


def pixel_checksum(image: np.ndarray) -> str:
    """Give a checksum of an image's size and pixels; 64 bits tell the millions of images of a run apart."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()


def find_copies(sites: pd.DataFrame) -> pd.DataFrame:
    """Find images with the same pixels.

    Parameters
    ----------
    sites
        One row a site, of all plates of a run, with `SITE_KEYS` and ``Checksum_<channel>`` (missing where an
        image was lost; several, with spaces between, where a site has several crops that were cut elsewhere).

    Returns
    -------
    pandas.DataFrame
        One row an image that has the pixels of one before it: `SITE_KEYS`, ``kind`` (one of `KINDS`) and ``message``.
    """
    sums = [column for column in sites if column.startswith(CHECKSUM)]
    images = sites.melt(SITE_KEYS, sums, "channel", "checksum").dropna(subset="checksum")
    images["channel"] = images["channel"].str.removeprefix(CHECKSUM)
    images = images.assign(checksum=images["checksum"].str.split()).explode("checksum")
    images = images.reset_index(drop=True)
    images = images[images["checksum"].duplicated(keep=False)]
    images = images.sort_values([*SITE_KEYS, "channel"], kind="stable")
    first = images.groupby("checksum")[[*SITE_KEYS, "channel"]].transform("first")
    copies = images[images["checksum"].duplicated()]
    rows = []
    for copy, other in zip(
        copies.to_dict("records"), first.loc[copies.index].to_dict("records"), strict=True
    ):
        if any(copy[key] != other[key] for key in PLATE_KEYS):
            kind = PLATES
        else:
            kind = SITES if any(copy[key] != other[key] for key in SITE_KEYS) else CHANNELS
            kind = CROPS if copy["channel"] == other["channel"] and kind == CHANNELS else kind
        place = "{Metadata_Source} {Metadata_Plate} {Metadata_Well} site {Metadata_Site} {channel}"
        message = f"{copy['channel']} has the same pixels as {place.format(**other)}"
        rows.append((*(copy[key] for key in SITE_KEYS), kind, message))
    return pd.DataFrame(rows, columns=[*SITE_KEYS, "kind", "message"])
