"""Plates of one's own, by a load_data and by a pattern with a platemap, beside plates of the gallery."""

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
        "Metadata_Source,Metadata_Batch,Metadata_Plate,root,load_data,layout,images,pattern,platemap\n"
        f"my_lab,2026_01,0042,{root},my_lab/sites.csv,layout.csv,,,\n"
        "my_lab,2026_01,exp7,scope,,,Screen 12,{plate}_{well}-f{site}_{channel}.tif,platemap.csv\n"
    )


def make_odd_plate(folder):
    """Write a plate whose files have names of their own, and its platemap."""
    images = folder / "scope/Screen 12"
    images.mkdir(parents=True)
    noise = np.random.default_rng(1)
    for well in ("b2", "C03"):
        for channel in ("DAPI", "488 ConA"):
            pixels = noise.integers(1, 4000, (64, 64), dtype=np.uint16)
            tifffile.imwrite(images / f"exp7_{well}-f1_{channel}.tif", pixels)
    (images / "overview.tif").touch()
    (folder / "platemap.csv").write_text(
        "Well,Drug,Role\nB02,inhibitor 7 (new),\nC03,water,negcon\n"
    )


@pytest.mark.slow
def test_an_own_plate_is_planned_indexed_and_fetched_beside_the_gallerys(workdir):
    folder, path = workdir
    make_plate(folder / "mine", folder)
    make_odd_plate(folder)
    config = yaml.safe_load(path.read_text())
    config["sample_sheet"] = "sheet.csv"
    config["sources"]["my_lab"] = {"channels": {"DNA": "DAPI", "ER": "488 ConA"}}
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
    assert plan.loc["my_lab", ["plates", "sites", "objects"]].tolist() == [2, 6, 12]
    assert plan.loc["all", "plates"] == 6

    odd = pd.read_parquet(folder / "results/index/my_lab/exp7.parquet")
    assert odd["Metadata_JCP2022"].tolist() == ["inhibitor 7 (new)", "water"]
    assert odd["Metadata_pert_type"].tolist() == ["trt", "negcon"]
    text = (folder / "results/plan.txt").read_text()
    assert "B02 site 1 ER: Screen 12/exp7_b2-f1_488 ConA.tif" in text
    assert "1 TIFF file(s) do not fit the pattern" in text and "overview.tif" in text
    assert "source_5 ACPJUM90101" not in text  # of the gallery's plates there is a line a source

    # Another root for the own plate concerns that plate alone.
    before = (folder / other).stat().st_mtime_ns
    (folder / "mine").rename(folder / "moved")
    for table in (folder / "sheet.csv", folder / "moved/my_lab/sites.csv"):
        table.write_text(table.read_text().replace("mine", "moved"))
    (folder / own.format("manifests")).unlink()
    run_snakemake(folder, path, own.format("manifests"), other)
    assert set(pd.read_parquet(folder / own.format("manifests"))["status"]) == {"ok"}
    assert (folder / other).stat().st_mtime_ns == before
