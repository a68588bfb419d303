"""Quality measures against what was done to the images; flags; the table of a plate."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.crops.illumination import Illumination
from coda.crops.quality import (
    CHANNEL_MEASURES,
    flag_sites,
    inspect_plate,
    measure_channel,
    measure_nuclei,
    measure_site,
    spectrum_slope,
)
from coda.crops.store import CropStore, CropWriter
from coda.figures.quality import plot_illumination, plot_montage, plot_plate_maps
from coda.figures.style import save_figure
from coda.files import read_table
from places import JUMP_FIELD
from scipy.ndimage import gaussian_filter

LIMITS = {"blurred": 6.0, "saturated": 0.01, "blank": 0.2, "cells": 1}
OFF = dict.fromkeys(LIMITS)


def measure(image):
    return measure_channel(image, np.bincount(image.ravel(), minlength=2**16))


def nuclei(rng, number, blur=1.0, size=256):
    """A DNA image of `number` round nuclei that do not touch."""
    rows, columns = np.mgrid[:size, :size]
    places = [(y, x) for y in range(24, size - 16, 36) for x in range(24, size - 16, 36)]
    image = np.zeros((size, size))
    for y, x in rng.permutation(places)[:number]:
        image[np.hypot(rows - y, columns - x) < rng.uniform(9, 12)] = rng.uniform(2000, 4000)
    return rng.poisson(gaussian_filter(image, blur) + 400).astype(np.uint16)


def test_slope_of_a_known_spectrum():
    """Rows whose power falls as frequency to -3 have slope -3."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.normal(size=(4000, 512)))
    frequency = np.fft.rfftfreq(512)
    spectrum[:, 1:] *= frequency[1:] ** -1.5
    spectrum[:, 0] = 0
    rows = np.fft.irfft(spectrum)
    assert spectrum_slope(rows) == pytest.approx(-3, abs=0.1)
    assert spectrum_slope(rng.normal(size=(4000, 512))) == pytest.approx(0, abs=0.05)
    assert np.isnan(spectrum_slope(np.ones((64, 64))))


def test_focus_falls_with_blur_on_the_real_field():
    if not JUMP_FIELD.is_dir():
        pytest.skip(f"the real field is not at {JUMP_FIELD}")
    for path in JUMP_FIELD.glob("*.tiff"):
        image = tifffile.imread(path).astype(np.float32)
        slopes = [spectrum_slope(gaussian_filter(image, blur)) for blur in (0, 1, 2, 4)]
        assert (np.diff(slopes) < -0.1).all()


def test_measures_are_what_their_words_say():
    rng = np.random.default_rng(1)
    image = rng.integers(1000, 60001, (300, 400)).astype(np.uint16)
    image[:30] = 61000
    found = measure(image)
    assert found["Saturation"] == 0.1
    assert found["Background"] == pytest.approx(np.percentile(image, 5), abs=2)
    spread = np.percentile(image, 99.9) - np.percentile(image, 5)
    assert found["Contrast"] == pytest.approx(spread / np.percentile(image, 5), rel=1e-2)
    assert measure(np.zeros((64, 64), np.uint16))["Contrast"] == 0


@pytest.mark.parametrize("number", [0, 1, 7, 30])
def test_nuclei_are_counted(number):
    image = nuclei(np.random.default_rng(number), number)
    found = measure_nuclei(image)
    assert found["Cells"] == number and np.isnan(found["CropCells"])
    disc = np.pi * 10.5**2
    assert found["Foreground"] == pytest.approx(number * disc / image.size, rel=0.5, abs=1e-9)
    assert np.isnan(found["NucleusArea"]) if not number else found["NucleusArea"] / disc < 1.5


def test_nuclei_in_the_crop_are_those_whose_centre_lies_in_it():
    """Against the places where they were drawn: a square of 6 by 6, 36 pixels apart."""
    image = nuclei(np.random.default_rng(0), 36)
    places = np.arange(24, 240, 36)
    for crop in (16, 64, 100, 140, 256):
        inside = (np.abs(places - 127.5) < crop / 2).sum()
        assert measure_nuclei(image, crop)["CropCells"] == inside**2


def test_one_nucleus_in_the_crop_is_no_good_site_however_many_are_around(plate):
    for cells, flag in ((0, "few cells"), (1, "few cells"), (2, "")):
        alone = plate.assign(Quality_CropCells=float(cells))
        assert flag_sites(alone, ["DNA"], OFF | {"cells": 2})["Quality_Flags"].eq(flag).all()


def test_real_field_has_cells():
    if not JUMP_FIELD.is_dir():
        pytest.skip(f"the real field is not at {JUMP_FIELD}")
    image = tifffile.imread(JUMP_FIELD / "r01c02f01p01-ch4sk1fk1fl1.tiff")
    found = measure_nuclei(image)
    assert 20 < found["Cells"] < 400 and 0.02 < found["Foreground"] < 0.4
    # At 0.598 um per pixel, nuclei of U2OS cells.
    assert 100 < found["NucleusArea"] * 0.598**2 < 400


@pytest.fixture
def plate():
    """Forty sites, of which 3 is blurred, 5 saturated, 7 empty and 9 a flat field."""
    rng, rows = np.random.default_rng(3), []
    for site in range(40):
        image = nuclei(rng, 0 if site == 7 else rng.integers(10, 25), 5 if site == 3 else 1)
        if site == 5:
            image = np.minimum(image, 1500).astype(np.uint16)
        if site == 9:
            image = rng.poisson(20000, image.shape).astype(np.uint16)
        counts = [np.bincount(image.ravel(), minlength=2**16)]
        row = {"Metadata_Well": f"A{site // 4 + 1:02d}", "Metadata_Site": site % 4}
        rows.append(
            {**row, "status": "ok", "reason": None, **measure_site([image], counts, ["DNA"])}
        )
    return pd.DataFrame(rows)


def test_flags_name_what_is_wrong_and_spare_the_rest(plate):
    flags = flag_sites(plate, ["DNA"], LIMITS)["Quality_Flags"]
    assert flags[3] == "blurred DNA"
    assert "saturated DNA" in flags[5]
    assert "few cells" in flags[7]
    assert "blank DNA" in flags[9] and "few cells" in flags[9]
    assert set(flags.index[flags != ""]) == {3, 5, 7, 9}
    assert flag_sites(plate, ["DNA"], LIMITS)["Quality_ok"].sum() == 36


def test_a_limit_of_none_switches_a_flag_off(plate):
    assert flag_sites(plate, ["DNA"], OFF)["Quality_ok"].all()
    for name in LIMITS:
        alone = flag_sites(plate, ["DNA"], {**OFF, name: LIMITS[name]})["Quality_Flags"]
        word = {"cells": "few cells"}.get(name, f"{name} DNA")
        assert set(alone) == {"", word}


def test_focus_is_judged_within_the_plate(plate):
    shifted = plate.assign(Quality_Focus_DNA=plate["Quality_Focus_DNA"] - 2)
    expected = flag_sites(plate, ["DNA"], LIMITS)
    pd.testing.assert_frame_equal(flag_sites(shifted, ["DNA"], LIMITS), expected)


def test_a_channel_without_dna_has_no_count_and_no_flag(plate):
    image = nuclei(np.random.default_rng(0), 5)
    found = measure_site([image], [np.bincount(image.ravel(), minlength=2**16)], ["ER"])
    assert np.isnan(found["Quality_Cells"])
    table = pd.DataFrame([found] * 3)
    assert flag_sites(table, ["ER"], LIMITS)["Quality_ok"].all()


@pytest.fixture
def inspected(plate, tmp_path):
    sites = plate.copy()
    measured = [name for name in sites if name.startswith("Quality_")]
    sites.loc[11, ["status", "reason"]] = "broken", "DNA truncated"
    sites.loc[11, measured] = np.nan
    index = sites[["Metadata_Well", "Metadata_Site"]].assign(
        Metadata_Source="source_3", Metadata_Plate="0123", Key_DNA="x"
    )
    quality = sites.join(flag_sites(sites[sites["status"] == "ok"], ["DNA"], LIMITS))
    rng = np.random.default_rng(0)
    with CropWriter(tmp_path / "a.arrow", ["DNA"], 16, 16, {}) as writer:
        for row in quality.index:
            if row not in (11, 13):  # 13 had no nucleus to cut
                pixels = rng.integers(0, 256, (2, 1, 16, 16), dtype=np.uint8)
                facts = quality.loc[row].drop(["status", "reason"]).to_dict()
                writer.write({"Metadata_Source": "source_3"} | facts, pixels)
    store = CropStore([tmp_path / "a.arrow"])
    out = tmp_path / "quality.parquet"
    return inspect_plate(index, sites, store.table, ["DNA"], LIMITS, out), out, store


def test_every_site_is_in_the_table_with_its_fate(inspected):
    table, out, _ = inspected
    assert len(table) == 40 and table["crops"].sum() == 76
    assert table.loc[11, ["status", "reason", "crops"]].tolist() == ["broken", "DNA truncated", 0]
    assert table.loc[13, "status"] == "no crop"
    assert (table["status"] == "ok").sum() == 38
    bad = {3, 5, 7, 9, 11, 13}
    assert set(table.index[~table["Quality_ok"]]) == bad
    assert "Key_DNA" not in table and read_table(out)["Metadata_Plate"].unique().tolist() == [
        "0123"
    ]


def test_figures_show_the_plate(inspected, tmp_path):
    table, _, store = inspected
    maps = plot_plate_maps(table, ["DNA"])
    lost = maps.table.set_index("Metadata_Well")["Lost"]
    assert lost["A03"] == 0.25 and lost["A04"] == 0.25 and lost.drop(["A03", "A04"]).eq(0).all()
    assert len(maps.figure.axes) == 2 * (len(CHANNEL_MEASURES) + 4)
    montage = plot_montage(store, number=3, seed=1)
    worst, random = (montage.table[montage.table["shown"] == name] for name in ("worst", "random"))
    assert len(worst) == len(random) == 3
    assert not worst.duplicated(["Metadata_Well", "Metadata_Site"]).any()  # each has two crops
    assert (worst["Quality_Flags"] != "").all() and random["Quality_ok"].all()
    functions = np.linspace(1, 1.5, 20 * 30, dtype=np.float32).reshape(1, 20, 30)
    facts = [np.array([value]) for value in (10.0, 900.0, 99.0)]
    empty = np.zeros((1, 9)), np.zeros((1, 4, 4)), pd.DataFrame()
    light = plot_illumination(Illumination(["DNA"], (20, 30), functions, *facts, *empty))
    other = plot_illumination(
        Illumination(["DNA"], (20, 30), functions, *facts, *empty), "gallery", functions * 0.8
    )
    assert other.table["highest"].tolist() == pytest.approx([1.2])
    assert "of the gallery" in other.figure.get_suptitle()
    assert other.figure.axes[1].get_ylim()[0] < 0.8
    assert light.table["highest"].tolist() == [1.5] and light.table["upper"].tolist() == [900]
    for name, drawing in [("maps", maps), ("montage", montage), ("light", light)]:
        save_figure(drawing, tmp_path / name, dpi=100, vector=False)
        assert sorted(path.suffix for path in tmp_path.glob(f"{name}.*")) == [".csv", ".png"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 5)])
def test_images_of_a_few_pixels_have_measures(shape):
    image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    found = measure_site([image], [np.bincount(image.ravel(), minlength=2**16)], ["DNA"], 4)
    assert found["Quality_Cells"] == found["Quality_Foreground"] == 0
