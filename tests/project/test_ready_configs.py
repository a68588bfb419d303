"""The configs that come with the workflow: each stands the check and names plates that exist."""

import pandas as pd
import pytest
from coda.config import pairs
from coda.gallery.plates import select_plates
from configs import load_config
from places import CONFIG

READY = sorted(path.stem for path in CONFIG.glob("*.yaml") if path.stem != "schema")
PAPER = {
    "source_3": "JCPQC016",
    "source_5": "ACPJUM012",
    "source_8": "A1166127",
    "source_11": "EC103-132LM2",
}


@pytest.fixture(scope="module")
def plates(reference) -> pd.DataFrame:
    table = pd.read_csv(reference / "metadata/plate.csv.gz", dtype=str)
    return table[table["Metadata_PlateType"] == "TARGET2"]


@pytest.mark.parametrize("name", READY)
def test_a_ready_config_is_sound(name):
    if name != "demo_own":  # its settings come from the demo's pack
        assert pairs(load_config(name))
    assert f"| {name}.yaml |" in (CONFIG / "README.md").read_text()


@pytest.mark.parametrize(("name", "count"), [("config", 60), ("pair", 11), ("target2", 140)])
def test_its_plates_exist(name, count, plates):
    config = load_config(name)
    sources = {*config["train_sources"], *config["target_sources"]}
    wishes = {source: config["sources"][source] for source in sorted(sources)}
    chosen = select_plates(plates, "TARGET2", wishes, config["exclude_plates"])
    assert len(chosen) == count
    held = chosen[chosen["subset"] == "validation"]
    assert held["Metadata_Source"].tolist() == sorted(sources)


def test_target2_names_every_source_that_has_such_plates(plates):
    config = load_config("target2")
    sources = set(plates["Metadata_Source"])
    assert set(config["sources"]) == set(config["train_sources"]) == sources
    assert set(config["target_sources"]) == sources and len(pairs(config)) == 110


def test_validation_plates_follow_the_rule_that_the_file_states(plates):
    sizes = plates.groupby(["Metadata_Source", "Metadata_Batch"])["Metadata_Plate"].transform(
        "size"
    )
    alone = plates[sizes == 1].sort_values(["Metadata_Source", "Metadata_Batch", "Metadata_Plate"])
    first = alone.groupby("Metadata_Source")["Metadata_Plate"].first().to_dict()
    named = {
        source: wish["validation_plate"]
        for source, wish in load_config("target2")["sources"].items()
    }
    assert named == first | PAPER


def test_pixel_sizes_are_the_microscopes_or_null(reference):
    table = pd.read_csv(reference / "metadata/microscope_config.csv")
    sizes = table.set_index("Metadata_Source")["Metadata_Pixel_Size_Microns"]
    for source, wish in load_config("target2")["sources"].items():
        assert wish["um_per_pixel"] in (None, sizes[source]), source


def test_the_pair_has_the_fewest_plates_of_the_papers(plates):
    counts = plates["Metadata_Source"].value_counts()[list(PAPER)]
    config = load_config("pair")
    assert {*config["train_sources"], *config["target_sources"]} == set(counts.nsmallest(2).index)
