"""Controls on crops whose intensities, or positions, tell the class exactly or not at all."""

import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError
from coda.evaluation.controls import intensity_control, intensity_features, position_control
from coda.evaluation.metrics import score
from coda.evaluation.units import classes_of, read_predictions
from coda.files import read_table, write_table
from coda.training.site_selection import class_names, restrict
from places import SCRIPTS

CHANNELS = ["DNA", "Mito"]
MOAS = ["moa a", "moa b", "moa c"]


def write_plate(folder, source, plate, gain, brightness, seed=0, wells=24, moas=(*MOAS, None)):
    """A plate of small crops: the class lights up channels, the source scales all of it."""
    random = np.random.default_rng([seed, len(plate)])
    path = folder / f"{source}_{plate}.arrow"
    with CropWriter(path, CHANNELS, 8, 8, {"um_per_pixel": 0.6}) as writer:
        for well in range(wells):
            label = well % 4
            row = {
                "Metadata_Source": source,
                "Metadata_Plate": plate,
                "Metadata_Well": f"A{well + 1:02d}",
                "Metadata_Site": 1,
                "Metadata_JCP2022": f"JCP_{well}",
                "Metadata_moa": moas[label],
                "Quality_ok": True,
            }
            level = np.full(2, 40.0)
            if brightness:
                level += ([60, 0], [0, 60], [60, 60], [0, 0])[label]
            pixels = random.normal(gain * level[None, :, None, None], 4, size=(1, 2, 8, 8))
            pixels = pixels.clip(0, 255).astype(np.uint8)
            writer.write(row, pixels)
    return path


@pytest.fixture
def stores(tmp_path):
    def make(brightness):
        made = {}
        for source, gain in (("source_1", 1.0), ("source_2", 0.5)):
            made[source] = CropStore(
                [
                    write_plate(tmp_path, source, plate, gain, brightness, seed=n)
                    for n, plate in enumerate(("P1", "P2"))
                ]
            )
        return made

    return make


@pytest.fixture
def plates():
    table = pd.DataFrame([(s, p) for s in ("source_1", "source_2") for p in ("P1", "P2")])
    table.columns = ["Metadata_Source", "Metadata_Plate"]
    return table.assign(subset=["train", "validation"] * 2)


def test_features_are_means_and_deviations(stores):
    store = stores(True)["source_1"]
    features = intensity_features(store)
    assert (features["Metadata_Well"] == store.table["Metadata_Well"]).all()
    for index in (0, 17, len(store) - 1):
        pixels = store.view(index).astype(np.float64)
        for channel, name in enumerate(CHANNELS):
            assert features[f"Intensity_{name}_mean"][index] == pytest.approx(
                pixels[channel].mean()
            )
            assert features[f"Intensity_{name}_sd"][index] == pytest.approx(pixels[channel].std())


def test_intensities_that_tell_the_class_do_so_across_gains(stores, plates, tmp_path):
    made = stores(True)
    home, away = (intensity_features(made[source]) for source in ("source_1", "source_2"))
    predictions = intensity_control(home, away, plates, MOAS)
    assert classes_of(predictions) == MOAS
    assert len(predictions) == len(away)
    assert predictions["Metadata_moa"].isna().sum() == 12
    assert score(predictions, MOAS)["accuracy"].value == 1.0
    write_table(predictions, tmp_path / "intensity.parquet")
    assert (
        len(read_predictions(tmp_path / "intensity.parquet", embeddings=True)["Embedding"][0]) == 4
    )


def test_intensities_that_tell_nothing_stay_near_chance(stores, plates):
    made = stores(False)
    home, away = (intensity_features(made[source]) for source in ("source_1", "source_2"))
    assert score(intensity_control(home, away, plates, MOAS), MOAS)["accuracy"].value < 0.65


def test_the_plate_kept_out_and_the_targets_labels_change_nothing_else(stores, plates):
    made = stores(True)
    home, away = (intensity_features(made[source]) for source in ("source_1", "source_2"))
    expected = intensity_control(home, away, plates, MOAS)
    altered = away.copy()
    kept_out = altered["Metadata_Plate"] == "P2"
    altered.loc[kept_out, "Intensity_DNA_mean"] += 100
    altered["Metadata_moa"] = "moa c"
    found = intensity_control(home, altered, plates, MOAS)
    columns = [f"Logit_{name}" for name in MOAS]
    pd.testing.assert_frame_equal(found.loc[~kept_out, columns], expected.loc[~kept_out, columns])


def test_position_tells_everything_on_one_layout_and_nothing_on_another(stores, plates):
    made = stores(False)
    home, away = made["source_1"].table, made["source_2"].table
    assert score(position_control(home, away, plates, MOAS), MOAS)["accuracy"].value == 1.0
    elsewhere = away.assign(Metadata_Well="Z99")
    shares = position_control(home, elsewhere, plates, MOAS)[[f"Logit_{name}" for name in MOAS]]
    assert np.exp(shares.to_numpy()) == pytest.approx(np.full((len(away), 3), 1 / 3), abs=1e-6)


def test_classes_without_a_training_site_are_named(stores, plates):
    made = stores(True)
    features = intensity_features(made["source_1"])
    features = features[features["Metadata_moa"] != "moa b"]
    with pytest.raises(UserError, match="moa b"):
        intensity_control(features, features, plates, MOAS)
    with pytest.raises(UserError, match="train plate"):
        intensity_control(features, features, plates.assign(subset="validation"), MOAS)


def test_flagged_sites_teach_the_controls_nothing_but_are_predicted(stores, plates):
    made = stores(True)
    home, away = (intensity_features(made[source]) for source in ("source_1", "source_2"))
    flagged = ["A21", "A22", "A23", "A24"]
    for table in (home, away):
        assert table["Quality_ok"].all()
        table["Quality_ok"] = ~table["Metadata_Well"].isin(flagged)
    expected = intensity_control(home, away, plates, MOAS)
    columns = [f"Logit_{name}" for name in MOAS]
    spoilt_home, spoilt_away = home.copy(), away.copy()
    for table in (spoilt_home, spoilt_away):
        table.loc[~table["Quality_ok"], "Intensity_DNA_mean"] = 255.0
    spoilt_home.loc[~spoilt_home["Quality_ok"], "Metadata_moa"] = "moa a"
    found = intensity_control(spoilt_home, spoilt_away, plates, MOAS)
    good = away["Quality_ok"]
    pd.testing.assert_frame_equal(found.loc[good, columns], expected.loc[good, columns])
    assert len(found) == len(away) and (~good).sum() == 8
    home.loc[home["Metadata_moa"] == "moa b", "Quality_ok"] = False
    for control in (intensity_control, position_control):
        with pytest.raises(UserError, match="good quality of moa b"):
            control(home, away, plates, MOAS)


class Files(dict):
    """The inputs or outputs of a job, by name."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize("chosen", [False, True])
def test_predictions_from_tables_of_sources_are_those_from_all_pixels(
    stores, plates, tmp_path, chosen
):
    """Also where some compounds are not in use, where a plate has no label at all, and beside a held-out plate."""
    made = stores(True)
    unlabelled = write_plate(tmp_path, "source_2", "P3", 0.5, True, wells=3, moas=[None] * 4)
    made["source_2"] = CropStore([*made["source_2"].paths, unlabelled])
    plates.to_csv(tmp_path / "plates.csv", index=False)
    choice = tmp_path / "choice.csv" if chosen else None
    if chosen:
        choice.write_text("Metadata_JCP2022,role\nJCP_0,kept_out\nJCP_5,kept_out\nJCP_4,used\n")
    home, away = (CropStore(made[source].paths) for source in ("source_1", "source_2"))
    restrict(home, choice)
    given = intensity_features(home), intensity_features(away), plates, class_names([home.table])
    expected = {"intensity": intensity_control(*given), "position": position_control(*given)}
    held_out = write_plate(tmp_path, "source_1", "P9", 0.5, True, wells=3, moas=["held out"] * 4)
    paths = {"training": [*made["source_1"].paths, held_out], "target": made["source_2"].paths}
    for name, stored in paths.items():
        write_table(intensity_features(CropStore(stored)), tmp_path / f"{name}.parquet")
    job = SimpleNamespace(
        input=Files(
            training=tmp_path / "training.parquet",
            target=tmp_path / "target.parquet",
            plates=tmp_path / "plates.csv",
            choice=choice,
        ),
        output=Files({name: tmp_path / f"{name}_found.parquet" for name in expected}),
        log=[str(tmp_path / "log")],
    )
    script = SCRIPTS / "predict_controls.py"
    runpy.run_path(str(script), init_globals={"snakemake": job})
    for name, table in expected.items():
        write_table(table, tmp_path / "expected.parquet")
        pd.testing.assert_frame_equal(
            read_table(tmp_path / f"{name}_found.parquet"), read_table(tmp_path / "expected.parquet"), check_exact=True
        )  # fmt: skip
