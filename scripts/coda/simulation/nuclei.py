"""Write the true nucleus centres the way the gallery keeps measured ones."""

from pathlib import Path

import pandas as pd

from coda.files import write_table
from coda.simulation.names import Plate

COLUMNS = ["ImageNumber", "ObjectNumber", "Location_Center_X", "Location_Center_Y"]


def write_nuclei(plate: Plate, sites: list[dict], root: Path) -> None:
    """Write true nucleus centres as the gallery's Nuclei.csv, grouped as the source groups them.

    Nuclei.csv has no metadata: its ``ImageNumber`` counts the sites of the plate, and Image.csv
    beside it says which site that is.
    """
    analysis = (
        root / plate.source / "workspace" / "analysis" / plate.batch / plate.plate / "analysis"
    )
    groups: dict[str, list[tuple[int, dict]]] = {}
    for number, site in enumerate(sites, start=1):
        groups.setdefault(group_name(plate, site), []).append((number, site))
    for group, members in groups.items():
        nuclei, images = [], []
        for number, site in members:
            identity = {"Metadata_Plate": plate.plate, "Metadata_Well": site["Metadata_Well"]}
            images.append(
                {"ImageNumber": number, **identity, "Metadata_Site": site["Metadata_Site"]}
            )
            nuclei += [
                (number, count, round(float(x), 3), round(float(y), 3))
                for count, (x, y) in enumerate(site["nuclei"], start=1)
            ]
        write_table(pd.DataFrame(nuclei, columns=COLUMNS), analysis / group / "Nuclei.csv")
        write_table(pd.DataFrame(images), analysis / group / "Image.csv")


def group_name(plate: Plate, site: dict) -> str:
    """Folder that holds the nuclei of a site."""
    well = site["Metadata_Well"]
    if plate.source == "source_10":
        return well
    names = {"plate": plate.plate, "well": f"{plate.plate}-{well}"}
    return names.get(plate.style.nuclei, f"{plate.plate}-{well}-{site['Metadata_Site']}")
