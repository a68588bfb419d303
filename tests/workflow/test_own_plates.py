"""Plates of one's own: beside plates of the gallery, and from odd names to calls as docs/own-data.md has it."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from coda.simulated_gallery import TABLES
from places import ROOT
from tutorial import follow
from workflow_run import copy_run, run_snakemake

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


PAGE = (ROOT / "docs/own-data.md").read_text()
COMMANDS = [("", commands) for commands in re.findall(r"```bash\n(.*?)```", PAGE, re.S)]
STAINS = {"1": "DAPI", "2": "488 ConA"}
PLATES = {"exp7": "JCPQC90101", "exp8": "JCPQC90201"}  # by the name of the page


def block(kind):
    """The block of a kind that the page has."""
    (text,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)
    return text


def write_odd_lab(folder):
    """Lay out the page's example with simulated plates: two, the second without negative controls."""
    gallery = folder / "results/tiny/gallery"
    wells = pd.read_csv(gallery / "tables" / TABLES["well"], dtype=str).set_index("Metadata_Plate")
    names = {"JCP2022_033924": "DMSO"}
    sheet = pd.read_csv(folder / "sheet.csv", dtype=str)
    for plate, simulated in PLATES.items():
        (images,) = gallery.rglob(f"images/*{simulated}*/Images")
        for path in images.glob("*.tif*"):
            row, column, site, stain = re.match(r"r(\d+)c(\d+)f(\d+)p01-ch(\d)", path.name).groups()
            if stain in STAINS:
                well = f"{chr(64 + int(row))}{column}"
                place = (
                    folder / f"microscope/Screen 12/{plate}_{well}-f{int(site)}_{STAINS[stain]}.tif"
                )
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
        mine = wells.loc[simulated]
        compounds = mine["Metadata_JCP2022"].map(lambda name: names.get(name, f"lib {name[-3:]}"))
        rows = pd.DataFrame(
            {"Well": mine["Metadata_Well"], "Compound": compounds, "Dose (uM)": "10"}
        )
        control = compounds == "DMSO"
        rows["Control"] = control.map({True: "negative", False: ""})
        rows = rows[~control] if plate == "exp8" else rows
        rows.to_csv(folder / f"{plate}.csv", index=False)
    both = sheet.loc[[0, 0]].assign(
        plate=list(PLATES), platemap=[f"{plate}.csv" for plate in PLATES]
    )
    both.to_csv(folder / "sheet.csv", index=False)


def test_the_page_s_commands_lead_from_odd_names_to_calls(finished, tmp_path):
    run = copy_run(finished[0], tmp_path / "workflow")
    run_snakemake(run, run / "config/tiny.yaml", "pack")
    (run / "sheet.csv").write_text(block("csv sheet"))
    write_odd_lab(run)
    config = yaml.safe_load(block("yaml pack"))
    config["pack"] = "results/tiny/packs/source_5/seed_1.zip"
    config["sources"]["my_lab"]["um_per_pixel"] = 1.195952
    config |= {
        "predict": {"method": "harmonised_coda_consensus"},
        "adapt": {"epochs": 1, "frozen_epochs": 0},
    }
    (run / "mine.yaml").write_text(yaml.safe_dump(config))
    plan, _, predict = follow(run, COMMANDS)
    assert "my_lab exp7" in plan and "my_lab exp8" in plan and "DAPI.tif" in plan
    assert "calls.html" in predict
    calls = pd.read_csv(run / "results/mine/calls.csv")
    compounds = calls[calls["level"] == "compound"].set_index("Metadata_JCP2022")
    assert compounds.index.str.startswith("lib ").all() and (compounds["plates"] == 2).any()
    assert {"exp7", "exp8"} == set(calls["Metadata_Plate"].dropna())
    trust = pd.read_csv(run / "results/mine/trust.csv").set_index("method")
    steps = ["unadapted", "harmonised_unadapted", "harmonised_coda_consensus"]
    assert trust.index.tolist() == steps and (trust["called_plates"] == 2).all()
    assert trust["use"].sum() == 1 and set(calls["method"]) == set(trust.index[trust["use"]])
    page = (run / "results/mine/calls.html").read_text()
    assert "exp8" in page and "data:image/webp" in page
    warnings = pd.read_csv(run / "results/mine/warnings.csv")
    assert len(warnings)

    study = run_snakemake(run, run / "mine.yaml", "-n", "all", check=False)
    assert study.returncode and "ask for the target predict" in study.stdout
