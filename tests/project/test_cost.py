"""The page on costs: in step with the benchmarks, and its constants with the plates and the config."""

import json

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
    speed = cost_page.measured(cost_page.training(), "end to end, batch 128")
    assert "31,725 images" in cost_page.judging()  # 25 plates of 141 wells of 9 sites
    assert cost_page.training_hours() == pytest.approx(300 * 141 * 9 / speed / 3600)


def test_all_plates_of_jump_are_counted(reference):
    plates = pd.read_csv(reference / "metadata/plate.csv.gz", dtype=str)["Metadata_Source"]
    few, wide = plates.isin(["source_2", "source_10"]).sum(), (plates == "source_9").sum()
    assert {6144: wide, 2304: few, 3456: len(plates) - few - wide} == cost_page.JUMP


def test_all_of_jump_by_hand():
    """8,497,152 sites: 108 x 1,536 x 4 + 451 x 384 x 6 + 1,966 x 384 x 9."""
    page = cost_page.all_of_jump()
    assert "2,525 plates" in page and "8.5 million" in page
    speed = cost_page.measured(cost_page.training(), cost_page.SPEED)
    old = cost_page.mark(cost_page.training())
    assert f"| one epoch of DINO, GPU hours{old} | {8_497_152 / speed / 3600:.1f} |" in page
    assert f"sites a second{old} | {speed:,.0f} |" in page
    assert "| crops (kept), TB | 5.1 |" in page and "| download, 3 channels, TB | 64.5 |" in page


def test_what_benchmarks_gpu_measured_takes_the_place_of_older_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(cost_page, "ROOT", tmp_path)
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    rows = [dict(name=name, value=3000.0, machine="a chip") for name in (cost_page.SPEED, "views")]
    results = tmp_path / "benchmarks/results/gpu.json"
    assert cost_page.training() == "training"
    results.write_text(json.dumps(rows))
    assert cost_page.training() == "training"  # it did not get as far
    results.write_text(json.dumps([*rows, dict(name=cost_page.MEMORY, value=10.0)]))
    assert cost_page.training() == "gpu" and cost_page.older("gpu") == ""
    assert cost_page.training_hours() == pytest.approx(300 * 141 * 9 / 3000 / 3600)


def test_what_rests_on_an_older_state_is_marked(monkeypatch):
    rows_of, state = cost_page.rows_of, {}
    monkeypatch.setattr(cost_page, "rows_of", lambda name: [row | state for row in rows_of(name)])
    for state["state"], marked, told in (("Of long ago.", 9, 2), ("", 0, 0)):
        page = cost_page.page()
        assert sum(r"\*" in line for line in page.splitlines()) == marked
        assert page.count("Of long ago.") == told


def test_predictions_are_counted_once_a_gpu_has_made_them(monkeypatch):
    names = cost_page.SPEED, cost_page.MEMORY, "inference at 224, with task model"
    fresh, rows_of = [], cost_page.rows_of
    monkeypatch.setattr(
        cost_page, "rows_of", lambda name: fresh if name == "gpu" else rows_of(name)
    )
    assert cost_page.not_measured() == ["the classifier", "the supervised baseline", "predictions"]
    assert "nor have\npredictions" in cost_page.all_of_jump()
    fresh += [dict(name=name, value=10_000.0, machine="a chip") for name in names]
    assert cost_page.not_measured() == ["the classifier", "the supervised baseline"]
    page = cost_page.all_of_jump()
    assert f"| predictions for all sites, GPU hours | {8_497_152 / 10_000 / 3600:.1f} |" in page
    assert "one epoch of DINO, GPU hours | " in page and "nor have" not in page
