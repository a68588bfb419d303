"""Plates: their images below a gallery's root, their sites, and those that are validation plates."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
FOLDER = "source_3/images/CP59/images/BR1__2022-04-29T01_02_16-Measurement 1/Images"


def tiff(seed: int) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.random.default_rng(seed).integers(1, 4000, (60, 70), dtype=np.uint16)
    )
    return buffer.getvalue()


def make_plate(folder: Path, sites: int) -> pd.DataFrame:
    """Write a plate's images below a gallery's root; give its index."""
    (folder / FOLDER).mkdir(parents=True)
    rows = []
    for number in range(sites):
        row = {
            "Metadata_Source": "source_3",
            "Metadata_Plate": "0012",
            "Metadata_Well": f"B{number // 9 + 1:02d}",
            "Metadata_Site": number % 9,
        }
        for position, channel in enumerate(CHANNELS):
            key = (
                f"{FOLDER}/r02c{number // 9 + 1:02d}f{number % 9:02d}p01-ch{position}sk1fk1fl1.tiff"
            )
            (folder / key).write_bytes(tiff(number * 5 + position))
            row[f"Key_{channel}"] = key
        rows.append(row)
    return pd.DataFrame(rows)


def inspected(plates, moved=False):
    """Two labelled compounds and a DMSO well on each plate; one compound may change its well."""
    rows = []
    for index, plate in enumerate(plates.to_dict("records")):
        wells = {"JCP_1": "A01", "JCP_2": f"B0{index + 1}" if moved else "B01", "JCP_D": "C01"}
        for compound, well in wells.items():
            moa = None if compound == "JCP_D" else f"moa {compound[-1]}"
            site = {"Metadata_Well": well, "Metadata_JCP2022": compound, "Metadata_moa": moa}
            site["Metadata_pert_iname"] = compound.lower()
            rows.append(plate | site | {"status": "ok", "Quality_ok": True})
    table = pd.DataFrame(rows)
    table.loc[0, "status"] = "missing"
    return table


def validation_plates(*plates):
    """Name validation plates by their source and plate, as the table of selected plates does."""
    columns = ["Metadata_Source", "Metadata_Plate"]
    return pd.DataFrame(plates, columns=columns).assign(subset="validation")
