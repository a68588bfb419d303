"""The page on costs: in step with the benchmarks, and its constants with the plates and the config."""

import cost_page
import pandas as pd
import pytest
from coda.config import pairs
from coda.files import read_table
from coda.gallery.labels import label_compounds
from coda.gallery.plates import select_plates
from configs import load_config


def test_the_page_is_in_step_with_the_benchmarks():
    assert (cost_page.ROOT / "docs/cost.md").read_text() == cost_page.page()


def test_its_settings_are_the_papers():
    config = load_config("config")
    assert config["pretrain"]["epochs"] == config["adapt"]["epochs"] == cost_page.EPOCHS
    assert config["pretrain"]["batch_size"] == 128 and config["data"]["wells"] == "labelled"
    assert len(config["channels"]) == cost_page.CHANNELS
    assert config["crops"]["size"] == cost_page.CROP
    assert config["gallery"]["plates_in_flight"] == cost_page.IN_FLIGHT
    assert config["knn"]["every"] == 1


def test_a_plate_has_the_wells_that_it_counts(reference):
    tables = reference / "metadata"
    layout = read_table(tables / "target2_layout_well_jcp_inchikey.csv")
    drugs = pd.read_csv(
        tables / "repurposing_drugs_20200324.txt", sep="\t", comment="!", encoding="latin-1", dtype=str
    )  # fmt: skip
    labels = label_compounds(
        layout[["Metadata_JCP2022", "Metadata_InChIKey"]].drop_duplicates(),
        read_table(tables / "JUMP-Target-2_compound_platemap.tsv"),
        read_table(tables / "JUMP-Target-2_compound_metadata.tsv"),
        drugs,
    )
    wells = layout.merge(labels, on="Metadata_JCP2022", how="left")
    assert len(wells) == cost_page.WELLS
    assert wells["Metadata_moa"].notna().sum() == cost_page.LABELLED


@pytest.mark.parametrize("name", cost_page.RUNS)
def test_a_configs_plates_and_pairs_are_counted(reference, name):
    plates = pd.read_csv(reference / "metadata/plate.csv.gz", dtype=str)
    config = load_config(name.removesuffix(".yaml"))
    sources = {*config["train_sources"], *config["target_sources"]}
    wishes = {source: config["sources"][source] for source in sources}
    chosen = select_plates(plates, "TARGET2", wishes, config["exclude_plates"])
    train = chosen[chosen["subset"] == "train"]["Metadata_Source"].value_counts()
    trained = sum(train[source] for source in config["train_sources"])
    adapted = sum(train[target] for _, target in pairs(config))
    assert cost_page.RUNS[name] == (trained, adapted)
    source, judged = cost_page.JUDGED
    assert name == "pair.yaml" or train[source] == judged


def test_the_arithmetic_by_hand():
    """One plate: 10,368 images of 1080 x 1080 x 2 bytes, and crops of 448 x 448 bytes."""
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip()
        for line in cost_page.by_plates().splitlines()
    }
    assert rows["download, uncompressed images, GB"] == "24.2"
    assert rows["crops (kept), GB"] == "2.1"
    speed = cost_page.measured("training", "end to end, batch 128")
    assert "31,725 images" in cost_page.judging()  # 25 plates of 141 wells of 9 sites
    assert cost_page.training_hours() == pytest.approx(300 * 141 * 9 / speed / 3600)
