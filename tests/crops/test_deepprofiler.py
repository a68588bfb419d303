"""The crops are DeepProfiler's: against its classes, and against its command line where given."""

import json
import os
import subprocess

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.crops.extract import extract_crops
from coda.crops.illumination import Illumination, estimate_illumination
from coda.crops.store import CropStore
from places import JUMP_FIELD
from scipy.ndimage import gaussian_filter
from skimage import io

FLAGS = {"blurred": None, "saturated": None, "blank": None, "cells": None}
SETTINGS = {
    "kind": "grid", "illumination": "deepprofiler", "min_sites": 1, "um_per_pixel": None, "flags": FLAGS
}  # fmt: skip
REAL_CHANNELS = {"ER": 1, "RNA": 2, "Mito": 3, "DNA": 4, "AGP": 5}


class Plate:
    """A plate on disk, in the workflow's form and, for DeepProfiler, as a table of files."""

    def __init__(self, folder, pictures, channels):
        self.folder, self.channels = folder, channels
        self.images = folder / "images"
        self.images.mkdir()
        objects, sites = [], []
        for number, picture in enumerate(pictures):
            well, site = f"A{number // 3 + 1:02d}", number % 3 + 1
            sites.append(("source_3", "P1", well, site, "treated"))
            for channel, image in zip(channels, picture, strict=True):
                file = f"{well}_s{site}_{channel}.tiff"
                tifffile.imwrite(self.images / file, image, compression="zlib")
                objects.append((well, site, channel, file, "ok", None))
        names = ["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Class"]
        self.index = pd.DataFrame(sites, columns=names)
        names = ["Metadata_Well", "Metadata_Site", "channel", "file", "status", "reason"]
        self.manifest = pd.DataFrame(objects, columns=names)

    def files(self):
        wide = self.manifest.pivot(
            index=["Metadata_Well", "Metadata_Site"], columns="channel", values="file"
        )
        return self.index.join(wide, on=["Metadata_Well", "Metadata_Site"])

    def ours(self, size, um=None, target=None, processes=1):
        """Illumination statistics, and uint8 crops (sites, crops, C, size, size)."""
        statistics, crops = self.folder / "P1.npz", self.folder / "P1.arrow"
        estimate_illumination(
            self.index, self.images, self.manifest, self.channels, statistics, processes, 1
        )
        settings = {**SETTINGS, "size": size, "um_per_pixel": target}
        extract_crops(
            self.index, self.images, self.manifest, statistics, crops, settings, um, processes
        )
        store = CropStore([crops])
        pixels = store.gather(np.arange(len(store)))
        return Illumination.load(statistics), pixels.reshape(len(self.index), -1, *pixels.shape[1:])


def cells(rng, height, width, vignette):
    """One raw image: blobs under a vignette, photon noise, an offset."""
    blobs = gaussian_filter((rng.random((height, width)) > 0.996).astype(float), 3.0) * 3e4
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 1 - vignette * (rows**2 + 0.5 * columns**2)
    return np.minimum(rng.poisson((blobs + 60) * light) * 7 + 300, 65535).astype(np.uint16)


@pytest.fixture(params=[(216, 216), (150, 178)], ids=["square", "odd quarters"])
def simulated(request, tmp_path):
    rng = np.random.default_rng(7)
    pictures = [[cells(rng, *request.param, v) for v in (0.1, 0.3)] for _ in range(9)]
    pictures[4][0][:80] = 65535  # saturated: the plate's percentile has to cap the stretch
    return Plate(tmp_path, pictures, ["DNA", "ER"])


@pytest.fixture
def real(tmp_path):
    if not JUMP_FIELD.is_dir():
        pytest.skip(f"the real field is not at {JUMP_FIELD}")
    pattern = "r01c02f01p01-ch{}sk1fk1fl1.tiff"
    picture = [tifffile.imread(JUMP_FIELD / pattern.format(n)) for n in REAL_CHANNELS.values()]
    return Plate(tmp_path, [picture], list(REAL_CHANNELS))


def by_classes(plate, monkeypatch, factor=1.0):
    """DeepProfiler's statistics and compressed images (sites, C, H, W), from its own classes."""
    from deepprofiler.dataset.compression import Compress
    from deepprofiler.dataset.illumination_statistics import IlluminationStatistics
    from deepprofiler.dataset.pixels import openImage

    files = plate.files()
    pixels = [
        openImage([plate.images / row[c] for c in plate.channels], None)
        for _, row in files.iterrows()
    ]
    collector = IlluminationStatistics(16, plate.channels, 4, 24)
    for image in pixels:
        collector.processImage(0, image, None)
    stats = collector.computeStats()
    compress = Compress(stats, plate.channels, str(plate.folder))
    compress.set_scaling_factor(factor)
    compress.expected = len(pixels)
    saved = []
    monkeypatch.setattr(io, "imsave", lambda path, image: saved.append(image))
    for (_, row), image in zip(files.iterrows(), pixels, strict=True):
        compress.process_image(0, image, row)
    return stats, np.stack(saved).reshape(len(files), len(plate.channels), *saved[0].shape)


def assert_equal_images(ours, theirs):
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert ours.shape == theirs.shape
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999
    # The comparison means something only where the images use their grey levels.
    assert len(np.unique(theirs)) > 100


def put_together(crops, shape):
    """Lay the grid of crops (sites, n, C, size, size) back into whole images."""
    sites, number, channels, size, _ = crops.shape
    tops, lefts = (
        np.linspace(0, side - size, -(-side // size)).round().astype(int) for side in shape
    )
    whole = np.zeros((sites, channels, *shape), np.uint8)
    corners = [(top, left) for top in tops for left in lefts]
    assert number == len(corners)
    for crop, (top, left) in enumerate(corners):
        whole[:, :, top : top + size, left : left + size] = crops[:, crop]
    return whole


@pytest.mark.parametrize("processes", [1, 2])
def test_simulated_plate_equals_the_classes(simulated, monkeypatch, processes):
    stats, theirs = by_classes(simulated, monkeypatch)
    illumination, crops = simulated.ours(100, processes=processes)
    assert_equal_images(put_together(crops, theirs.shape[2:]), theirs)

    function = stats["illum_correction_function"].transpose(2, 0, 1)
    np.testing.assert_allclose(illumination.functions, function, rtol=1e-6)
    np.testing.assert_array_equal(illumination.histogram, stats["histogram"])
    np.testing.assert_array_equal(illumination.upper, stats["upper_percentiles"])
    np.testing.assert_array_equal(illumination.lower, stats["lower_percentiles"])
    np.testing.assert_allclose(illumination.mean, stats["mean_values"])
    np.testing.assert_allclose(illumination.mean_image, stats["mean_image"].transpose(2, 0, 1))


def test_rescaled_plate_equals_the_classes(simulated, monkeypatch):
    """A common pixel size is DeepProfiler's scaling factor."""
    _, theirs = by_classes(simulated, monkeypatch, factor=0.6 / 0.7)
    _, crops = simulated.ours(100, um=0.6, target=0.7)
    assert_equal_images(put_together(crops, theirs.shape[2:]), theirs)


def test_real_field_equals_the_classes(real, monkeypatch):
    _, theirs = by_classes(real, monkeypatch)
    _, crops = real.ours(1080)
    assert_equal_images(crops[:, 0], theirs)


def by_command(plate):
    """Compressed images (sites, C, H, W) of ``python -m deepprofiler prepare``."""
    python = os.environ.get("CODA_DEEPPROFILER_PYTHON")
    if not python:
        pytest.skip("CODA_DEEPPROFILER_PYTHON does not name a Python of envs/deepprofiler.yaml")
    root = plate.folder / "project"
    (root / "inputs/config").mkdir(parents=True)
    (root / "inputs/metadata").mkdir()
    (root / "inputs/images").symlink_to(plate.images)
    plate.files().to_csv(root / "inputs/metadata/index.csv", index=False)
    images = {"channels": plate.channels, "file_format": "tiff", "bits": 16}
    config = {
        "dataset": {
            "metadata": {"label_field": "Class", "control_value": "DMSO"},
            "images": images,
        },
        "prepare": {
            "illumination_correction": {"down_scale_factor": 4, "median_filter_size": 24},
            "compression": {"implement": True, "scaling_factor": 1.0},
        },
    }
    (root / "inputs/config/config.json").write_text(json.dumps(config))
    command = [python, "-m", "deepprofiler", "--root", root, "--config", "config.json"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([*command, "--cores", "1", "prepare"], check=True, env=environment)
    out = root / "outputs/compressed/images/P1"
    names = plate.files()[plate.channels].map(lambda file: file.replace(".tiff", ".png"))
    return np.stack([[io.imread(out / file) for file in row] for row in names.to_numpy()])


def test_simulated_plate_equals_the_command(simulated):
    theirs = by_command(simulated)
    _, crops = simulated.ours(100)
    assert_equal_images(put_together(crops, theirs.shape[2:]), theirs)


def test_real_field_equals_the_command(real):
    theirs = by_command(real)
    _, crops = real.ours(1080)
    assert_equal_images(crops[:, 0], theirs)
