"""Write a plate's load_data table in the style of its source.

The gallery holds three generations: S3 addresses in ``URL_Orig*``, folders and file names under
old local paths (with or without a trailing slash), and Parquet with illumination functions.
"""

from pathlib import Path

import pandas as pd

from coda.files import write_table
from coda.simulation.cells import CHANNELS
from coda.simulation.names import Plate

BUCKET = "s3://cellpainting-gallery/cpg0016-jump"
OLD_MOUNT = "/home/ubuntu/bucket/cpg0016-jump"


def write_load_data(plate: Plate, sites: pd.DataFrame, root: Path) -> Path:
    """Write load_data of a plate and give its path.

    Parameters
    ----------
    plate
        The plate.
    sites
        One row per site: ``Metadata_Well``, ``Metadata_Site`` and a file name per channel.
    root
        The gallery root, the folder that holds the sources.
    """
    style = plate.style.load_data
    folder = root / plate.source / "workspace" / "load_data_csv" / plate.batch / plate.plate
    identity = sites[["Metadata_Well", "Metadata_Site"]].copy()
    for name, value in (("Plate", plate.plate), ("Batch", plate.batch), ("Source", plate.source)):
        identity.insert(0, f"Metadata_{name}", value)
    if style == "parquet":
        path = folder / "load_data_with_illum.parquet"
        table = pd.concat(
            [identity.astype({"Metadata_Site": str}), parquet_columns(plate, sites)], axis=1
        )
    elif style.startswith("url"):
        urls = {
            f"URL_Orig{channel}": f"{BUCKET}/{plate.folder}/" + sites[channel]
            for channel in reversed(CHANNELS)
        }
        table = pd.concat([pd.DataFrame(urls), identity], axis=1)
        path = folder / ("load_data.csv" + style[len("url") :])
    else:
        slash = "/" if style.startswith("path/") else ""
        columns = {f"FileName_Orig{channel}": sites[channel] for channel in sorted(CHANNELS)}
        columns |= {
            f"PathName_Orig{channel}": f"{OLD_MOUNT}/{plate.folder}{slash}"
            for channel in sorted(CHANNELS)
        }
        table = pd.concat([identity, pd.DataFrame(columns, index=sites.index)], axis=1)
        path = folder / ("load_data.csv" + style[len("path" + slash) :])
    write_table(table, path)
    return path


def parquet_columns(plate: Plate, sites: pd.DataFrame) -> pd.DataFrame:
    """File and folder columns of the Parquet style, illumination functions first."""
    columns = {}
    for channel in sorted(CHANNELS):
        columns[f"FileName_Illum{channel}"] = illum_name(plate, channel)
    for channel in sorted(CHANNELS):
        columns[f"FileName_Orig{channel}"] = sites[channel]
    for channel in sorted(CHANNELS):
        columns[f"PathName_Illum{channel}"] = f"{BUCKET}/{illum_folder(plate)}"
    for channel in sorted(CHANNELS):
        columns[f"PathName_Orig{channel}"] = f"{BUCKET}/{plate.folder}/"
    return pd.DataFrame(columns, index=sites.index)


def illum_folder(plate: Plate) -> str:
    """Folder of a plate's illumination functions under the root."""
    return f"{plate.source}/images/{plate.batch}/illum/{plate.plate}"


def illum_name(plate: Plate, channel: str) -> str:
    """File name of an illumination function."""
    return f"{plate.plate}_Illum{channel}.npy"
