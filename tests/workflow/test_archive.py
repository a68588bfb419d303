"""What a run hands on: the crate that it ends with, and the zip of `snakemake archive`."""

import json
import re
import zipfile

import pandas as pd
import pytest
import yaml
from rocrate.rocrate import ROCrate
from workflow_run import copy_run, run_snakemake


@pytest.fixture(scope="module")
def unpacked(finished, tmp_path_factory):
    """The archive of the finished run, unpacked, with what Snakemake said."""
    folder = tmp_path_factory.mktemp("archive")
    run = copy_run(finished[0], folder / "run")
    done = run_snakemake(run, run / "config/tiny.yaml", "archive")
    with zipfile.ZipFile(run / "results/tiny/archive.zip") as packed:
        packed.extractall(folder / "unpacked")
    return folder / "unpacked", done.stdout


def test_packing_runs_nothing_else(unpacked):
    rules = re.findall(r"^(?:local)?rule (\w+):", unpacked[1], re.M)
    assert set(rules) == {"pack_archive", "archive"}


def test_figures_tables_report_and_provenance_are_there(unpacked):
    folder, _ = unpacked
    for name in (
        "report.html", "metrics.csv", "summary.csv", "summary.txt", "metadata/plates.csv",
        "figures/accuracy/source_5.pdf", "figures/accuracy/source_5.png", "figures/accuracy/source_5.csv",
        "figures/training/source_5_seed_1.pdf", "models/source_5/seed_1/pretraining.parquet",
        "provenance/models/source_5/seed_1/foundation.json",
        "provenance/workflow/rules/report.smk", "provenance/machine.json",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    assert not [
        path for path in folder.rglob("*") if path.suffix in (".arrow", ".tiff", ".safetensors")
    ]


def test_the_crate_describes_every_file_of_the_archive(unpacked):
    folder, _ = unpacked
    crate = ROCrate(folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {part.id for part in crate.root_dataset["hasPart"]} == files - {"ro-crate-metadata.json"}


def test_a_figure_can_be_traced_to_code_config_seed_plates_objects_software_and_hardware(unpacked):
    folder, _ = unpacked
    crate = ROCrate(folder)
    action = crate.dereference("#run")
    assert "figures/accuracy/source_5.png" in {one.id for one in action["result"]}
    assert crate.mainEntity["version"]
    config = yaml.safe_load((folder / "provenance/config.yaml").read_text())
    assert config["seeds"] == [1] and config["pretrain"]["clip"] == 1.0  # a default, filled in
    plates = pd.read_csv(folder / "metadata/plates.csv", dtype=str)
    for plate in plates.itertuples():
        objects = pd.read_parquet(
            folder / f"manifests/{plate.Metadata_Source}/{plate.Metadata_Plate}.parquet"
        )
        assert objects["key"].notna().all() and objects["md5"].str.fullmatch("[0-9a-f]{32}").all()
    model = json.loads((folder / "provenance/models/source_5/seed_1/foundation.json").read_text())
    header = model["header"]
    assert (
        header["seed"] == 1 and header["device"] and header["code"] and header["software"]["torch"]
    )
    assert len(header["inputs"]) >= 2


def test_the_config_in_the_archive_runs_again(unpacked):
    folder, _ = unpacked
    run = folder.parent / "run"
    done = run_snakemake(run, folder / "provenance/config.yaml", "--dry-run")
    assert "Nothing to be done" in done.stdout
