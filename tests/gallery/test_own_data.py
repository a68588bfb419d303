"""The page on own plates: its tables, folders and config, laid out as they stand there, are read."""

import re
from pathlib import Path

import pytest
import yaml
from coda.config import check_config
from coda.crops.ready_crops import index_crops, read_rows
from coda.files import read_table
from coda.gallery.image_names import EXPORTS, own_images, place_names
from coda.gallery.labels import PLACEHOLDERS
from coda.gallery.open import open_gallery
from coda.gallery.platemap import HEADINGS, compounds_of, plain, read_platemap
from coda.gallery.plates import WELL_COLUMNS, read_sample_sheet, read_wells, select_plates
from coda.gallery.site_index import index_plate
from coda.gallery.understood import describe_plate
from places import ROOT
from snakemake.utils import update_config

PAGE = (ROOT / "docs/own-data.md").read_text()
BLOCKS = dict(re.findall(r"```((?:csv|text) [\w ]+|yaml)\n(.*?)```", PAGE, re.S))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The example as the page lays it out."""
    monkeypatch.chdir(tmp_path)
    for name in BLOCKS["text files"].splitlines():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("sheet.csv").write_text(BLOCKS["csv sheet"])
    Path("platemap.csv").write_text(BLOCKS["csv platemap"])
    return tmp_path


@pytest.fixture
def gallery_folder(tmp_path, monkeypatch) -> Path:
    """The example with a load_data, as the page lays it out."""
    monkeypatch.chdir(tmp_path)
    assert "<source>/workspace/load_data_csv/<batch>/<plate>/load_data.csv" in PAGE
    table = Path("plates/my_lab/workspace/load_data_csv/batch_1/P001/load_data.csv")
    table.parent.mkdir(parents=True)
    table.write_text(BLOCKS["csv load_data"])
    for key in re.findall(r"my_lab/images/\S+?\.tif", BLOCKS["csv load_data"]):
        image = Path("plates", key)
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    Path("sheet.csv").write_text(BLOCKS["csv gallery sheet"])
    Path("layout.csv").write_text(BLOCKS["csv layout"])
    return tmp_path


def test_the_config_stands_the_check(folder):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(config, yaml.safe_load(BLOCKS["yaml"]))
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
    assert check_config(config, schema)["target_sources"] == ["my_lab"]


def test_the_plan_understands_the_example_as_the_page_says(folder):
    config = yaml.safe_load(BLOCKS["yaml"])
    (plate,) = read_sample_sheet(config["sample_sheet"], "TARGET2").to_dict("records")
    place = {name: cell for name, cell in plate.items() if isinstance(cell, str)}
    platemap = read_platemap(place["platemap"], "exp7")
    index = index_plate(
        open_gallery(place["root"]),
        "my_lab",
        plate["Metadata_Batch"],
        "exp7",
        platemap.assign(Metadata_Source="my_lab", Metadata_Plate="exp7")[WELL_COLUMNS],
        compounds_of(platemap),
        config["channels"],
        images=own_images(place, config["sources"]["my_lab"]["channels"]),
    )
    assert describe_plate(index, config["channels"]) + "\n" == BLOCKS["text plan"]
    assert (index["Metadata_pert_type"] == "negcon").sum() == 1


def test_the_table_of_crops_is_read(tmp_path):
    table = tmp_path / "crops.csv"
    table.write_text(BLOCKS["csv crops"])
    for name in re.findall(r"\w+\.png", BLOCKS["csv crops"]):
        (tmp_path / name).touch()
    index = index_crops(table, None, "my_lab", "b", "exp7", ["DNA", "ER"])
    assert index["Metadata_Well"].tolist() == ["B02", "C03"]
    assert index["Metadata_pert_type"].tolist() == ["trt", "negcon"]
    assert len(read_rows(table, "exp7", ["DNA", "ER"])) == 3


def test_the_tables_of_exports_and_headings_are_those_of_the_code():
    exports = re.findall(r"^\|[^|]+\| `([^`]+)`[^|]*\| `(\w+)` \|$", PAGE, re.M)
    assert [name for _, name in exports] == [*EXPORTS]
    for example, name in exports:
        (row,) = place_names([example], name, "P1").to_dict("records")
        assert (row["well"], row["site"]) == ("B03", 1)
    known = {heading for headings in HEADINGS.values() for heading in headings}
    table = PAGE.split("## 2. The platemap")[1].split("## 3.")[0]
    cells = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    written = [name for row in cells for cell in row for name in re.findall(r"`([^`]+)`", cell)]
    assert len(written) > 20
    assert {plain(name) for name in written if not name.startswith("(")} <= known


def test_the_plates_are_chosen_and_their_sites_found(gallery_folder):
    config = yaml.safe_load(BLOCKS["yaml"])
    sheet = read_sample_sheet(config["sample_sheet"], "TARGET2")
    wish = {"my_lab": {"validation_plate": "P003", "plates": None}}
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
    assert all((gallery_folder / "plates" / key).is_file() for key in keys)


def test_its_facts_are_the_public_tables(reference):
    layout = read_table(reference / "metadata/target2_layout_well_jcp_inchikey.csv")
    ids = set(re.findall(r"JCP2022_\d+", PAGE))
    assert ids - set(PLACEHOLDERS) <= set(layout["Metadata_JCP2022"])
    assert ids > set(PLACEHOLDERS[1:])
    dmso = layout[layout["Metadata_JCP2022"] == "JCP2022_033924"]
    assert set(dmso["control_type"]) == {"negcon"}
