"""Write the metadata tables that go with the simulated gallery, in their public formats."""

from pathlib import Path

import pandas as pd

from coda.files import write_table
from coda.simulated_gallery import TABLES
from coda.simulation.names import Plate, well_names
from coda.simulation.world import DMSO, Compound, plan_wells

HUB_COMMENTS = (
    '!Source\t"Simulated: laid out like the Drug Repurposing Hub, all entries invented"',
    "!URL\tnone",
    "!File_date\t3/24/2020",
    "!Table_name\tsimulated information",
    "!API_available\tnone",
    "!Disclaimer\tNo entry of this table describes a real drug.",
    "!Restrictions\tnone",
    "!Citation\tnone",
    "!Contact\tnone",
)
HUB_DRUG_COLUMNS = ["pert_iname", "clinical_phase", "moa", "target", "disease_area", "indication"]
HUB_SAMPLE_COLUMNS = ["broad_id", "pert_iname", "qc_incompatible", "purity", "vendor"]
HUB_SAMPLE_COLUMNS += ["catalog_no", "vendor_name", "expected_mass", "smiles", "InChIKey"]
HUB_SAMPLE_COLUMNS += ["pubchem_cid", "deprecated_broad_id"]


def write_tables(
    folder: Path, plates: list[Plate], compounds: list[Compound], settings: dict, seed: int
) -> None:
    """Write all tables of the simulation into `folder`.

    Parameters
    ----------
    folder
        Where the tables go.
    plates
        The Target-2 plates. One more plate per source, of another type and without images, stands in
        the plate table, for only Target-2 plates may be used.
    compounds
        From `make_compounds`.
    settings, seed
        As for `simulate_gallery`.
    """
    paths = {name: folder / file for name, file in TABLES.items()}
    write_table(plate_table(plates), paths["plate"])
    write_table(well_table(plates, compounds, settings, seed), paths["well"])
    write_table(compound_table(compounds), paths["compound"])
    write_table(microscope_table(plates, settings["binning"]), folder / "microscope_config.csv")
    layout = plan_wells(compounds, settings, well_names((16, 24)), seed)
    platemap = {
        "well_position": list(layout),
        "broad_sample": [compound.broad_sample for compound in layout.values()],
        "solvent": "DMSO",
    }
    write_tsv(pd.DataFrame(platemap), paths["platemap"])
    write_tsv(target2_metadata(compounds), paths["target_compounds"])
    write_tsv(hub_drugs(compounds), paths["drugs"], HUB_COMMENTS)
    write_tsv(hub_samples(compounds), folder / "repurposing_samples_20200324.txt", HUB_COMMENTS)


def write_tsv(table: pd.DataFrame, path: Path, comments: tuple[str, ...] = ()) -> None:
    """Write a tab-separated table; the hub's files have comments first, Latin-1 and Windows line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = "\r\n" if comments else "\n"
    head = "".join(line + end for line in comments)
    path.write_bytes(
        (head + table.to_csv(sep="\t", index=False, lineterminator=end)).encode("latin-1")
    )


def plate_table(plates: list[Plate]) -> pd.DataFrame:
    """JUMP's plate table."""
    rows = [(plate.source, plate.batch, plate.plate, "TARGET2") for plate in plates]
    last = {plate.source: plate for plate in plates}
    rows += [
        (plate.source, plate.batch, f"{plate.plate}999", "COMPOUND") for plate in last.values()
    ]
    return pd.DataFrame(
        sorted(rows),
        columns=["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_PlateType"],
    )


def well_table(
    plates: list[Plate], compounds: list[Compound], settings: dict, seed: int
) -> pd.DataFrame:
    """JUMP's well table: which compound stands in which well of each plate."""
    rows = [
        (plate.source, plate.plate, well, compound.jcp)
        for plate in plates
        for well, compound in plan_wells(
            compounds, settings, well_names(plate.style.grid), seed
        ).items()
    ]
    return pd.DataFrame(
        rows, columns=["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_JCP2022"]
    )


def compound_table(compounds: list[Compound]) -> pd.DataFrame:
    """JUMP's compound table; invented compounds have no structure."""
    rows = {compound.jcp: compound for compound in compounds}
    dmso = {"InChI": "InChI=1S/C2H6OS/c1-4(2)3/h1-2H3", "SMILES": "C[S+](C)[O-]"}
    table = pd.DataFrame(
        {
            "Metadata_JCP2022": list(rows),
            "Metadata_InChIKey": [compound.inchikey for compound in rows.values()],
            "Metadata_InChI": [dmso["InChI"] if jcp == DMSO else "" for jcp in rows],
            "Metadata_SMILES": [dmso["SMILES"] if jcp == DMSO else "" for jcp in rows],
        }
    )
    return table.sort_values("Metadata_JCP2022", ignore_index=True)


def target2_metadata(compounds: list[Compound]) -> pd.DataFrame:
    """The compound metadata of the JUMP-Target-2 plate, one row per sample."""
    rows = [
        {
            "broad_sample": compound.broad_sample or "NA",
            "InChIKey": compound.inchikey,
            "pert_iname": compound.name,
            "pubchem_cid": "NA",
            "target_list": "NA",
            "pert_type": "trt" if compound.control_type == "NA" else "control",
            "control_type": compound.control_type,
            "smiles": "C[S+](C)[O-]" if compound.jcp == DMSO else "",
            "InChI": "InChI=1S/C2H6OS/c1-4(2)3/h1-2H3" if compound.jcp == DMSO else "",
        }
        for compound in sorted(compounds, key=lambda compound: compound.broad_sample or "Z")
    ]
    return pd.DataFrame(rows)


def hub_entries(compounds: list[Compound]) -> list[tuple[str, Compound]]:
    """Name and compound of the hub's entries: all but DMSO and every second one without a MoA.

    Every second name has a capital, the first compound's among them, for drugs are joined without
    regard to case.
    """
    silent = [compound for compound in compounds if compound.moa is None and compound.jcp != DMSO]
    listed = [c for c in compounds if c.moa is not None or c in silent[::2]]
    capital = list(dict.fromkeys(compound.name for compound in listed))[::2]
    return [(c.name.capitalize() if c.name in capital else c.name, c) for c in listed]


def hub_drugs(compounds: list[Compound]) -> pd.DataFrame:
    """The hub's drugs, with one that is on no plate and has letters beyond ASCII."""
    moas = {name: compound.moa or "" for name, compound in hub_entries(compounds)}
    moas["sim-extra-d\xe9j\xe0-vu"] = "simulated mechanism 01"
    rows = [(name, "Preclinical", moa, "", "", "") for name, moa in sorted(moas.items())]
    return pd.DataFrame(rows, columns=HUB_DRUG_COLUMNS)


def hub_samples(compounds: list[Compound]) -> pd.DataFrame:
    """The hub's samples, one row per sample id."""
    rows = [
        dict.fromkeys(HUB_SAMPLE_COLUMNS, "")
        | {
            "broad_id": compound.broad_sample,
            "pert_iname": name,
            "qc_incompatible": "0",
            "vendor": "simulated",
            "InChIKey": compound.inchikey,
        }
        for name, compound in hub_entries(compounds)
    ]
    return pd.DataFrame(rows).sort_values("broad_id")


def microscope_table(plates: list[Plate], binning: float) -> pd.DataFrame:
    """The microscopes; the pixel size is that of the simulated images, binning included."""
    rows = []
    for source, lab in {plate.source: plate.lab for plate in plates}.items():
        microscope = lab.microscope
        rows.append(
            {
                "Metadata_Source": source,
                "Metadata_Microscope_Name": microscope.name,
                "Metadata_Widefield_vs_Confocal": microscope.mode,
                "Metadata_Excitation_Type": microscope.light,
                "Metadata_Objective_NA": microscope.aperture,
                "Metadata_Filter_Configuration": microscope.filters,
                "Metadata_Pixel_Size_Microns": microscope.pixel_um * binning,
            }
        )
    return pd.DataFrame(rows)
