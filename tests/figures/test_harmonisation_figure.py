"""Figures of harmonisation: what is drawn is what the filters say, and it can be read."""

import numpy as np
import pytest
from coda.crops.harmonisation import Harmonisation, transport
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError
from coda.figures.harmonisation import harmonisation_curves, shown_by_both, treatment_strips
from coda.figures.style import save_figure
from drawings import assert_readable

CHANNELS = ["DNA", "ER", "AGP"]


def a_filter(plate, seed, bins=24, channels=CHANNELS):
    """A filter between two spectra that fall with frequency."""
    random = np.random.default_rng(seed)
    fall = np.exp(-0.3 * np.arange(bins))[:, None, None]
    factors = random.normal(size=(2, bins, 3, 3)) * 0.2 + np.eye(3)
    before, wanted = factors @ factors.transpose(0, 1, 3, 2) * fall
    gain = transport(before, wanted, 1e-4, 4.0)
    numbers = (0.6, 0.6, 0.02, 16, 1.0, 1.0)
    return Harmonisation("source_3", plate, "source_5", channels, *numbers, gain, before, wanted)


def write(path, source, seed, good=True):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    with CropWriter(path, CHANNELS, 32, 32, {"um_per_pixel": 0.6}) as writer:
        for site in range(6):
            metadata = {
                "Metadata_Source": source,
                "Metadata_Plate": "P1",
                "Metadata_Well": f"A{site + 1:02d}",
                "Metadata_JCP2022": f"JCP2022_{site % 2:06d}",
                "Metadata_pert_type": "trt" if site % 2 else "negcon",
                "Quality_ok": good,
            }
            writer.write(metadata, pixels[site : site + 1])
    return CropStore([path])


def test_lines_are_the_gains_and_spectra(tmp_path):
    plates = [a_filter("P10", 0), a_filter("P9", 1)]
    drawing = harmonisation_curves(plates)
    assert_readable(drawing.figure)
    grid = np.array(drawing.figure.axes).reshape(3, 3)
    gains = [line.get_ydata() for line in grid[1, 2].lines if len(line.get_ydata()) == 24]
    assert np.array_equal(gains, [plates[1].gain[:, 2, 2], plates[0].gain[:, 2, 2]])
    powers = [line.get_ydata() for line in grid[0, 1].lines]
    for plate in plates:
        for spectrum in (plate.before, plate.after, plate.wanted):
            assert any(np.array_equal(line, spectrum[:, 1, 1]) for line in powers)
    others = [line.get_ydata() for line in grid[2, 0].lines if len(line.get_ydata()) == 24]
    mean = (plates[0].gain + plates[1].gain) / 2
    assert np.allclose(others, [mean[:, 0, 1], mean[:, 0, 2]])
    assert len(drawing.table) == 2 * 24 * 9
    row = drawing.table.query(
        "Metadata_Plate == 'P10' and channel_to == 'ER' and channel_from == 'DNA'"
    )
    assert np.array_equal(row["gain"], plates[0].gain[:, 1, 0])
    assert np.allclose(row["frequency_per_um"], plates[0].frequency)
    save_figure(drawing, tmp_path / "curves")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".pdf", ".png"]
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert labels[0] == "P9, by 16 control wells" and "source 5" in labels


def test_many_plates_stay_readable_and_other_channels_are_refused():
    assert_readable(harmonisation_curves([a_filter(f"P{n}", n) for n in range(25)]).figure)
    with pytest.raises(UserError, match="different channels"):
        harmonisation_curves([a_filter("P1", 0), a_filter("P2", 0, channels=["DNA", "ER", "RNA"])])


def test_a_strip_shows_both_labs_before_and_after(tmp_path):
    target = write(tmp_path / "a.arrow", "source_3", 0)
    training = write(tmp_path / "b.arrow", "source_5", 1)
    drawing = treatment_strips(target, training, a_filter("P1", 2), ["JCP2022_000001"])
    assert_readable(drawing.figure)
    shown = np.array([axes.images[0].get_array() for axes in drawing.figure.axes])
    assert shown.shape == (9, 32, 32)
    assert np.allclose(shown.mean((1, 2)), 0, atol=1e-3) and np.allclose(shown.std((1, 2)), 1)
    crop = target.view(int(drawing.table["Metadata_Well"][0][1:]) - 1)[1]
    assert np.allclose(shown[1], (crop - crop.mean()) / crop.std())
    assert not np.allclose(shown[4], shown[1], atol=0.05)  # the filter has done something
    assert drawing.table["Metadata_Source"].tolist() == ["source_3", "source_5"]
    assert (drawing.table["Metadata_JCP2022"] == "JCP2022_000001").all()
    control = treatment_strips(target, training, a_filter("P1", 2), ["negcon"]).table
    assert (control["Metadata_pert_type"] == "negcon").all()
    both = treatment_strips(target, training, a_filter("P1", 2), shown_by_both(target, training))
    names = [axes.get_ylabel() for axes in both.figure.axes if axes.get_ylabel()]
    assert len(names) == 6 and len({name.split("\n")[0] for name in names}) == 2
    assert both.table["Metadata_pert_type"].tolist()[:2] == ["negcon", "negcon"]
    compound = both.table["Metadata_JCP2022"].tolist()[2:]
    assert (
        compound[0] == compound[1] and "negcon" not in both.table["Metadata_pert_type"].tolist()[2:]
    )
    bad = write(tmp_path / "c.arrow", "source_5", 1, good=False)
    with pytest.raises(UserError, match=r"c\.arrow has no site of negcon"):
        treatment_strips(target, bad, a_filter("P1", 2), ["negcon"])
