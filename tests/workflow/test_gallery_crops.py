"""Crops by other settings than the default: which jobs they need, and what comes out."""

import re

import numpy as np
import pandas as pd
import pytest
from coda.crops.store import CropStore
from workflow_run import run_snakemake

PLATE = "source_3/JCPQC90101"
FETCH = {"download_illumination", "download_nuclei"}


@pytest.mark.parametrize(
    ("crops", "fetched"),
    [
        ("{kind: grid, nuclei: gallery}", set()),  # nuclei are of use for cells only
        ("{kind: cells, size: 32, nuclei: gallery, illumination: gallery}", FETCH),
    ],
)
def test_the_gallerys_functions_and_nuclei_are_fetched_only_where_asked_for(
    workdir, crops, fetched
):
    folder, config = workdir
    path = f"results/crops/{PLATE}.arrow"
    done = run_snakemake(folder, config, path, "--dry-run", "--config", f"crops={crops}")
    jobs = set(re.findall(r"^rule (\w+):", done.stdout, re.M))
    assert "extract_crops" in jobs
    assert jobs & FETCH == fetched


@pytest.mark.slow
def test_cells_from_the_gallerys_nuclei_under_its_illumination(workdir, gallery):
    folder, config = workdir
    crops = "crops={size: 32, kind: cells, nuclei: gallery, illumination: gallery}"
    path = f"results/crops/{PLATE}.arrow"
    run_snakemake(folder, config, path, "results/figures/quality/source_3", "--config", crops)
    store = CropStore([folder / path])
    assert store.settings["illumination"] == store.settings["nuclei"] == "gallery"
    assert (store.height, store.width, store.channels) == (32, 32, ["DNA", "ER"])
    parts = []
    for nuclei in gallery.rglob("JCPQC90101-*/Nuclei.csv"):
        images = pd.read_csv(nuclei.with_name("Image.csv"))
        parts.append(pd.read_csv(nuclei).merge(images, on="ImageNumber"))
    drawn = pd.concat(parts).rename(columns={"Location_Center_Y": "Y", "Location_Center_X": "X"})
    inside = drawn[["Y", "X"]].sub(16).add(0.5).transform(np.floor).isin(range(33)).all(axis=1)
    columns = ["Metadata_Well", "Metadata_Site"]
    cut = store.table.rename(columns={"Crop_Y": "Y", "Crop_X": "X"})
    expected, found = (
        table[[*columns, "Y", "X"]].sort_values([*columns, "Y", "X"]).to_numpy().tolist()
        for table in (drawn[inside], cut)
    )
    assert found == expected and len(found) > 20
    assert (folder / f"results/figures/quality/{PLATE}_illumination.png").stat().st_size > 0
