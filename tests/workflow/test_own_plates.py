"""A plate of one's own, from a sample sheet and a local folder, beside plates of the gallery."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from workflow_run import run_snakemake

PLACE = "my_lab/images/2026_01/images/0042"


def make_plate(root, folder):
    """Write a plate in the gallery's layout, its layout of wells and the sample sheet."""
    (root / PLACE).mkdir(parents=True)
    noise, rows = np.random.default_rng(0), []
    for well in ("A01", "A02"):
        for site in (1, 2):
            row = {"Metadata_Plate": "0042", "Metadata_Well": well, "Metadata_Site": site}
            for channel in ("DNA", "ER"):
                row[f"PathName_Orig{channel}"] = f"{root}/{PLACE}/"
                row[f"FileName_Orig{channel}"] = f"{well} {site} {channel}.tif"
                pixels = noise.integers(1, 4000, (64, 64), dtype=np.uint16)
                tifffile.imwrite(root / PLACE / row[f"FileName_Orig{channel}"], pixels)
            rows.append(row)
    pd.DataFrame(rows).to_csv(root / "my_lab/sites.csv", index=False)
    well = {"Metadata_Well": ["A01", "A02"], "Metadata_JCP2022": ["JCP2022_033924", "JCP2022_1"]}
    pd.DataFrame(well).to_csv(folder / "layout.csv", index=False)
    (folder / "sheet.csv").write_text(
        "Metadata_Source,Metadata_Batch,Metadata_Plate,root,load_data,layout\n"
        f"my_lab,2026_01,0042,{root},my_lab/sites.csv,layout.csv\n"
    )


@pytest.mark.slow
def test_an_own_plate_is_planned_indexed_and_fetched_beside_the_gallerys(workdir):
    folder, path = workdir
    make_plate(folder / "mine", folder)
    config = yaml.safe_load(path.read_text())
    config["sample_sheet"] = "sheet.csv"
    config["sources"]["my_lab"] = {"validation_plate": None}
    config["target_sources"].append("my_lab")
    path.write_text(yaml.safe_dump(config))
    own = "results/{}/my_lab/0042.parquet"
    other = "results/manifests/source_5/ACPJUM90101.parquet"
    run_snakemake(folder, path, own.format("manifests"), other, "results/plan.txt")

    index = pd.read_parquet(folder / own.format("index"))
    assert index["Metadata_JCP2022"].tolist() == ["JCP2022_033924"] * 2 + ["JCP2022_1"] * 2
    assert index["Key_ER"][0] == f"{PLACE}/A01 1 ER.tif"
    manifest = pd.read_parquet(folder / own.format("manifests"))
    assert len(manifest) == 8 and set(manifest["status"]) == {"ok"}
    assert set(pd.read_parquet(folder / other)["status"]) == {"ok"}
    plan = pd.read_csv(folder / "results/plan.csv").set_index("Metadata_Source")
    assert plan.loc["my_lab", ["plates", "sites", "objects"]].tolist() == [1, 4, 8]
    assert plan.loc["all", "plates"] == 5

    # Another root for the own plate concerns that plate alone.
    before = (folder / other).stat().st_mtime_ns
    (folder / "mine").rename(folder / "moved")
    for table in (folder / "sheet.csv", folder / "moved/my_lab/sites.csv"):
        table.write_text(table.read_text().replace("mine", "moved"))
    (folder / own.format("manifests")).unlink()
    run_snakemake(folder, path, own.format("manifests"), other)
    assert set(pd.read_parquet(folder / own.format("manifests"))["status"]) == {"ok"}
    assert (folder / other).stat().st_mtime_ns == before
