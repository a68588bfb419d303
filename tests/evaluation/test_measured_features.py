"""Measured features of discs whose number, size and brightness are known, and what is read from them."""

import numpy as np
import pandas as pd
import pytest
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError
from coda.evaluation.classical_profiles import FEWEST_CONTROLS, predict_from_profiles
from coda.evaluation.measured_features import COUNT, measured_features, segment_nuclei

CHANNELS = ["DNA", "Mito"]
UM_PER_PIXEL = 1.0
MOAS = ["large", "bright", "many"]


def draw(places, radius, level=200, size=96):
    """An image with discs."""
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for row, column in places:
        image[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = level
    return image


PLACES = [(20, 20), (20, 70), (70, 20), (70, 70)]


def test_nuclei_are_found_one_by_one():
    nuclei = segment_nuclei(draw(PLACES, 7), UM_PER_PIXEL)
    assert sorted(np.unique(nuclei)) == [0, 1, 2, 3, 4]
    areas = np.bincount(nuclei.ravel())[1:]
    assert np.allclose(areas, np.pi * 7**2, rtol=0.15)


def test_nuclei_that_touch_are_told_apart_and_debris_is_left_out():
    touching = draw([(40, 40), (40, 53)], 7)
    assert segment_nuclei(touching, UM_PER_PIXEL).max() == 2
    assert segment_nuclei(draw([(40, 40)], 1), UM_PER_PIXEL).max() == 0
    assert segment_nuclei(draw([(40, 40)], 30), UM_PER_PIXEL).max() == 0
    # The same pixels at half the size are half as large: nuclei of 7 um become debris of 3.
    assert segment_nuclei(draw(PLACES, 7), UM_PER_PIXEL / 4).max() == 0


def test_an_empty_image_has_no_nuclei():
    assert not segment_nuclei(np.full((32, 32), 9), UM_PER_PIXEL).any()


def site(random, moa, gain=1.0):
    """A crop in which the mechanism shows in one property of the cells."""
    places = PLACES + ([(45, 45), (20, 45), (70, 45)] if moa == "many" else [])
    places = [tuple(np.add(place, random.integers(-3, 4, 2))) for place in places]
    dna = draw(places, 9 if moa == "large" else 6, 100 * gain)
    mito = draw(places, 12, (90 if moa == "bright" else 50) * gain)
    pixels = np.stack([dna, mito]) + random.normal(10, 2, (2, 96, 96))
    return pixels.clip(0, 255).astype(np.uint8)


def write_plate(folder, source, plate, gain, seed, controls=6):
    random = np.random.default_rng(seed)
    path = folder / f"{source}_{plate}.arrow"
    with CropWriter(path, CHANNELS, 96, 96, {"um_per_pixel": UM_PER_PIXEL}) as writer:
        moas = [*MOAS * 8, *[None] * controls]
        for well, moa in enumerate(moas):
            row = {
                "Metadata_Source": source, "Metadata_Batch": "B", "Metadata_Plate": plate,
                "Metadata_Well": f"A{well + 1:02d}", "Metadata_Site": 1, "Metadata_JCP2022": f"JCP_{well}",
                "Metadata_moa": moa, "Metadata_pert_type": "trt" if moa else "negcon", "Quality_ok": True,
            }  # fmt: skip
            writer.write(row, site(random, moa, gain)[None])
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    tables = {}
    for source, gain in (("source_1", 1.0), ("source_2", 1.3)):
        paths = [write_plate(folder, source, f"P{n}", gain, [n, len(source)]) for n in (1, 2)]
        tables[source] = measured_features(CropStore(paths))
    return tables


PLATES = pd.DataFrame(
    [(f"source_{s}", f"P{p}", subset) for s in (1, 2) for p, subset in ((1, "train"), (2, "validation"))],
    columns=["Metadata_Source", "Metadata_Plate", "subset"],
)  # fmt: skip


def test_features_are_those_of_the_cells(measured):
    table = measured["source_1"]
    by_moa = table.groupby("Metadata_moa")
    assert by_moa[COUNT].median().to_dict() == {"large": 4, "bright": 4, "many": 7}
    areas = by_moa["Nuclei_AreaShape_Area"].median()
    assert areas["bright"] == pytest.approx(np.pi * 6**2, rel=0.2)
    assert areas["large"] == pytest.approx(np.pi * 9**2, rel=0.2)
    # Intensities are of 8-bit grey levels; a cell reaches beyond the disc that is drawn in Mito.
    brightness = by_moa["Cells_Intensity_MaxIntensity_Mito"].median()
    assert brightness["bright"] > 1.4 * brightness["large"]
    assert len([name for name in table if name.startswith("Cells_Correlation")]) >= 3


@pytest.mark.parametrize("correction", ["none", "harmony"])
def test_mechanisms_are_read_at_home_and_in_another_lab(measured, correction):
    for source in measured:
        called = predict_from_profiles(
            measured["source_1"], measured[source], PLATES, sorted(MOAS), correction
        )
        assert len(called) == len(measured[source])
        logits = called.filter(like="Logit_")
        assert np.allclose(np.exp(logits.to_numpy()).sum(axis=1), 1, atol=1e-4)
        held_out = (called["Metadata_Plate"] == "P2") & called["Metadata_moa"].notna()
        calls = logits[held_out].idxmax(axis=1).str.removeprefix("Logit_")
        right = (calls == called.loc[held_out, "Metadata_moa"]).mean()
        assert right > (0.8 if source == "source_1" else 0.6)


def test_sphering_gives_the_controls_of_each_source_the_same_covariance(measured):
    for source in measured:
        called = predict_from_profiles(
            measured["source_1"], measured[source], PLATES, sorted(MOAS), "sphered"
        )
        controls = np.stack(called["Embedding"])[called["Metadata_pert_type"] == "negcon"]
        assert np.abs(controls.mean(axis=0)).max() < 1e-4
        spread = np.linalg.eigvalsh(np.cov(controls.T))[::-1]
        # As many directions as controls tell of, each with about the same spread; the fudge makes it a little less.
        assert spread[0] <= 1.0 + 1e-4 and spread[len(controls) - 2] > 0.2
        assert spread[len(controls) - 1] < 1e-4


def test_labels_of_the_target_change_nothing(measured):
    target = measured["source_2"]
    other = target.assign(Metadata_moa=target["Metadata_moa"].sample(frac=1, random_state=0).values)
    for correction in ("none", "sphered", "harmony"):
        one, two = (
            predict_from_profiles(measured["source_1"], table, PLATES, sorted(MOAS), correction)
            for table in (target, other)
        )
        assert one.filter(like="Logit_").equals(two.filter(like="Logit_"))


def test_a_well_without_cells_says_so(measured):
    target = measured["source_2"].copy()
    target.loc[0, COUNT] = 0
    called = predict_from_profiles(measured["source_1"], target, PLATES, sorted(MOAS), "none")
    assert called.filter(like="Logit_").loc[0].isna().all()
    assert called["Reason"].notna().tolist() == [True] + [False] * (len(called) - 1)


def test_bad_inputs_are_refused_in_a_sentence(measured):
    training, target = measured["source_1"], measured["source_2"]
    with pytest.raises(UserError, match="no well with cells of unseen"):
        predict_from_profiles(training, target, PLATES, [*MOAS, "unseen"], "none")
    few = target[(target["Metadata_pert_type"] == "trt") | target["Metadata_Well"].eq("A25")]
    assert (few["Metadata_pert_type"] == "negcon").sum() < FEWEST_CONTROLS
    with pytest.raises(UserError, match="source_2 has 2 wells of negative controls"):
        predict_from_profiles(training, few, PLATES, sorted(MOAS), "sphered")


def test_crops_without_nuclei_or_a_pixel_size_are_refused(tmp_path):
    for channel, size, words in (
        ("ER", 1.0, "no channel is named DNA"),
        ("DNA", None, "pixel size"),
    ):
        path = tmp_path / f"{channel}.arrow"
        with CropWriter(path, [channel], 8, 8, {"um_per_pixel": size}) as writer:
            writer.write({"Metadata_Well": "A01"}, np.zeros((1, 1, 8, 8), np.uint8))
        with pytest.raises(UserError, match=words):
            measured_features(CropStore([path]))
