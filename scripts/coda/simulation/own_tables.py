"""The tables that a lab of its own would write for simulated plates: a sample sheet, and a platemap with own names."""

from pathlib import Path

import pandas as pd

from coda.simulated_gallery import GALLERY, TABLES

DMSO = "JCP2022_033924"


def write_own_tables(gallery: Path, lab: str, sheet: Path, platemap: Path) -> None:
    """Write both tables for all plates of a simulated gallery.

    Parameters
    ----------
    gallery
        Folder with the simulated gallery and its public tables.
    lab
        What the lab calls itself.
    sheet, platemap
        Files to write.
    """
    tables = gallery / "tables"
    plates = pd.read_csv(tables / TABLES["plate"], dtype=str)
    plates = plates[plates["Metadata_PlateType"] == "TARGET2"]  # the others have no images
    wells = pd.read_csv(tables / TABLES["well"], dtype=str)
    compounds = sorted(set(wells["Metadata_JCP2022"]) - {DMSO})
    names = {compound: f"LIB-{number:04d}" for number, compound in enumerate(compounds, 1)}
    names[DMSO] = "DMSO"
    pd.DataFrame(
        {
            "Plate": wells["Metadata_Plate"],
            "Well": wells["Metadata_Well"],
            "Compound": wells["Metadata_JCP2022"].map(names),
            "Control": wells["Metadata_JCP2022"].eq(DMSO).map({True: "negative", False: ""}),
        }
    ).to_csv(platemap, index=False)
    rows = []
    for plate in plates.itertuples():
        below = Path(plate.Metadata_Source, "images", plate.Metadata_Batch, "images")
        (folder,) = (gallery / GALLERY / below).glob(f"*{plate.Metadata_Plate}*")
        rows.append(
            {
                "source": lab,
                "batch": plate.Metadata_Batch,
                "plate": plate.Metadata_Plate,
                "root": gallery / GALLERY,
                "images": below / folder.name,
                "platemap": platemap,
            }  # fmt: skip
        )
    pd.DataFrame(rows).to_csv(sheet, index=False)
