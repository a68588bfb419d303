"""Illumination statistics: an independent calculation, files, the logger left alone."""

import logging

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.crops.illumination import Illumination, estimate_illumination
from coda.errors import UserError


@pytest.fixture
def plate(tmp_path):
    """Thirty flat fields of 120 x 160 pixels under a known vignette, and their mean light."""
    rng, sites, objects = np.random.default_rng(2), [], []
    rows, columns = np.ogrid[-1:1:120j, -1:1:160j]
    light = 1 - 0.3 * rows**2 - 0.2 * columns**2
    for number in range(30):
        well, site = f"A{number // 3 + 1:02d}", number % 3 + 1
        sites.append(("source_3", "P1", well, site))
        image = rng.poisson(3000 * light).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{well}_s{site}_DNA.tiff", image)
        objects.append((well, site, "DNA", f"{well}_s{site}_DNA.tiff", "ok", None))
    names = ["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    index = pd.DataFrame(sites, columns=names)
    names = ["Metadata_Well", "Metadata_Site", "channel", "file", "status", "reason"]
    return index, tmp_path, pd.DataFrame(objects, columns=names), light


def test_function_is_the_vignette_and_statistics_are_numpys(plate):
    index, images, manifest, light = plate
    found = estimate_illumination(index, images, manifest, ["DNA"], images / "a.npz", processes=2)
    pixels = np.stack([tifffile.imread(path) for path in sorted(images.glob("*.tiff"))])
    np.testing.assert_array_equal(found.histogram[0], np.bincount(pixels.ravel(), minlength=2**16))
    assert found.mean[0] == pytest.approx(pixels.mean())
    # DeepProfiler's percentile is the grey value at which the cumulated share exceeds p.
    ordered = np.sort(pixels.ravel())
    for value, share in [(found.lower[0], 0.0001), (found.upper[0], 0.9999)]:
        assert abs(value - ordered[int(share * ordered.size)]) <= 1
    # The correction flattens the light, to the precision of a filter 96 pixels wide, off the rim.
    flat = (light / found.functions[0])[20:-20, 20:-20]
    assert flat.std() / flat.mean() < 0.03 < light[20:-20, 20:-20].std() / light.mean()
    assert found.functions.min() == 1


def test_processes_change_nothing(plate):
    index, images, manifest, _ = plate
    one, three = (
        estimate_illumination(index, images, manifest, ["DNA"], images / "a.npz", processes)
        for processes in (1, 3)
    )
    for name in ["functions", "histogram", "mean_image", "upper"]:
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
    pd.testing.assert_frame_equal(one.sites, three.sites)


def test_file_round_trip(plate):
    index, images, manifest, _ = plate
    made = estimate_illumination(index, images, manifest, ["DNA"], images / "a.npz")
    read = Illumination.load(images / "a.npz")
    assert read.channels == ["DNA"] and read.size == (120, 160)
    assert read.functions.dtype == np.float32 and read.functions.shape == (1, 120, 160)
    np.testing.assert_array_equal(read.functions, made.functions)
    assert read.sites["Quality_Focus_DNA"].equals(made.sites["Quality_Focus_DNA"])
    assert read.sites["status"].tolist() == ["ok"] * 30 and read.sites["reason"].isna().all()


def test_bad_files_are_named(tmp_path):
    with pytest.raises(UserError, match="none.npz do not exist"):
        Illumination.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(UserError, match="other.npz does not hold"):
        Illumination.load(tmp_path / "other.npz")


def test_an_index_without_sites_is_refused(plate):
    index, images, manifest, _ = plate
    with pytest.raises(UserError, match="no sites"):
        estimate_illumination(index[:0], images, manifest, ["DNA"], images / "a.npz")


def test_nothing_left_is_told_without_a_file(plate):
    index, images, manifest, _ = plate
    with pytest.raises(UserError, match="0 usable sites"):
        estimate_illumination(index, images / "x", manifest, ["DNA"], images / "a.npz", max_lost=1)
    assert not (images / "a.npz").exists()


def test_deepprofiler_leaves_the_logger_alone(plate, capsys):
    index, images, manifest, _ = plate
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    estimate_illumination(index, images, manifest, ["DNA"], images / "a.npz")
    assert (root.level, list(root.handlers)) == before
    assert capsys.readouterr().out == ""
