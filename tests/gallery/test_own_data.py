"""The page on own plates: its tables, folders and config, laid out as they stand there, are read."""

import re
from pathlib import Path

import pytest
import yaml
from coda.config import check_config
from coda.files import read_table
from coda.gallery.labels import PLACEHOLDERS
from coda.gallery.open import open_gallery
from coda.gallery.plates import read_sample_sheet, read_wells, select_plates
from coda.gallery.site_index import index_plate
from places import ROOT
from snakemake.utils import update_config

PAGE = (ROOT / "docs/own-data.md").read_text()
BLOCKS = dict(re.findall(r"```(csv \w+|yaml)\n(.*?)```", PAGE, re.S))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The example as the page lays it out."""
    monkeypatch.chdir(tmp_path)
    table = Path("plates/my_lab/workspace/load_data_csv/batch_1/P001/load_data.csv")
    assert str(table) in PAGE
    table.parent.mkdir(parents=True)
    table.write_text(BLOCKS["csv load_data"])
    for key in re.findall(r"my_lab/images/\S+?\.tif", BLOCKS["csv load_data"]):
        image = Path("plates", key)
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    Path("sheet.csv").write_text(BLOCKS["csv sheet"])
    Path("layout.csv").write_text(BLOCKS["csv layout"])
    return tmp_path


def test_the_config_stands_the_check(folder):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(config, yaml.safe_load(BLOCKS["yaml"]))
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
    assert check_config(config, schema)["target_sources"] == ["my_lab"]


def test_the_plates_are_chosen_and_their_sites_found(folder):
    config = yaml.safe_load(BLOCKS["yaml"])
    sheet = read_sample_sheet(config["sample_sheet"], "TARGET2")
    wish = {"my_lab": config["sources"]["my_lab"] | {"plates": None}}
    chosen = select_plates(sheet, "TARGET2", wish)
    assert chosen["subset"].tolist() == ["train", "train", "validation"]
    plate = chosen.iloc[0]
    wells = read_wells("unread.parquet", "my_lab", "P001", plate["layout"])
    compounds = wells[["Metadata_JCP2022"]].assign(
        Metadata_InChIKey="A", Metadata_pert_iname="name", Metadata_pert_type="trt", Metadata_moa=None
    )  # fmt: skip
    gallery = open_gallery(plate["root"])
    index = index_plate(gallery, "my_lab", "batch_1", "P001", wells, compounds, config["channels"])
    assert index["Metadata_Well"].tolist() == ["A01", "A01", "B02"]
    assert index["Metadata_Site"].tolist() == [1, 2, 1]
    keys = index[["Key_DNA", "Key_ER"]].to_numpy().ravel()
    assert all((folder / "plates" / key).is_file() for key in keys)


def test_its_facts_are_the_public_tables(reference):
    layout = read_table(reference / "metadata/target2_layout_well_jcp_inchikey.csv")
    ids = set(re.findall(r"JCP2022_\d+", PAGE))
    assert ids - set(PLACEHOLDERS) <= set(layout["Metadata_JCP2022"])
    assert ids > set(PLACEHOLDERS[1:])
    dmso = layout[layout["Metadata_JCP2022"] == "JCP2022_033924"]
    assert set(dmso["control_type"]) == {"negcon"}
