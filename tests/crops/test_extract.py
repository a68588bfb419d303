"""Cutting a plate: kinds of crops, compression, lost sites, settings that do not fit."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.crops.compression import compress, stretch, tail_percentiles
from coda.crops.extract import extract_crops
from coda.crops.illumination import Illumination, estimate_illumination
from coda.crops.image_copies import CHANNELS as CHANNEL_COPY
from coda.crops.image_copies import SITES as SITE_COPY
from coda.crops.image_copies import find_copies
from coda.crops.locations import segment_nuclei
from coda.crops.quality import inspect_plate
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.parallel import spread
from hypothesis import given
from hypothesis import strategies as st
from skimage.exposure import rescale_intensity
from skimage.util import img_as_ubyte

FLAGS = {"blurred": 6.0, "saturated": 0.01, "blank": 0.2, "cells": 1}
SETTINGS = {
    "kind": "centre",
    "size": 32,
    "illumination": "none",
    "min_sites": 20,
    "um_per_pixel": None,
    "flags": FLAGS,
}
CHANNELS = ["DNA", "ER"]


class Plate:
    """Twenty-four sites of 96 x 112 pixels, nuclei at known places."""

    def __init__(self, folder):
        self.folder, self.images = folder, folder / "images"
        self.images.mkdir()
        rng, sites, objects = np.random.default_rng(0), [], []
        rows, columns = np.mgrid[:96, :112]
        self.places = [(30, 40), (60, 70), (8, 8)]
        for number in range(24):
            well, site = f"{'AB'[number // 12]}{number % 12 // 3 + 1:02d}", number % 3
            sites.append(("source_3", "B1", "0042", well, site, f"JCP{number}", None))
            for channel in CHANNELS:
                level = np.full((96, 112), 500.0)
                for y, x in self.places:
                    level[np.hypot(rows - y, columns - x) < 9] = 3000 + 50 * number
                file = f"{well}_s{site}_{channel}.tiff"
                tifffile.imwrite(self.images / file, rng.poisson(level).astype(np.uint16))
                objects.append((well, site, channel, file, "ok", None))
        names = ["Source", "Batch", "Plate", "Well", "Site", "JCP2022", "moa"]
        self.index = pd.DataFrame(sites, columns=[f"Metadata_{name}" for name in names])
        names = ["Metadata_Well", "Metadata_Site", "channel", "file", "status", "reason"]
        self.manifest = pd.DataFrame(objects, columns=names)

    def raw(self, well, site, channel):
        return tifffile.imread(self.images / f"{well}_s{site}_{channel}.tiff")

    def estimate(self, processes=1, min_sites=5, max_lost=0.3, channels=CHANNELS):
        out = self.folder / "light.npz"
        arguments = self.index, self.images, self.manifest, channels, out
        return estimate_illumination(*arguments, processes, min_sites, max_lost)

    def extract(self, um=None, processes=1, max_lost=0.3, settings=None, **more):
        out = self.folder / "crops.arrow"
        inputs = self.index, self.images, self.manifest, self.folder / "light.npz", out
        settings = {**SETTINGS, **(settings or {})}
        table = extract_crops(*inputs, settings, um, processes, max_lost, **more)
        return table, CropStore([out])


@pytest.fixture
def plate(tmp_path):
    return Plate(tmp_path)


def reference(raw, upper, function=1.0):
    """Compression in float64 with scikit-image, from its description."""
    corrected = raw / function
    low, high = np.percentile(corrected, (0.05, 99.95))
    return img_as_ubyte(rescale_intensity(corrected, in_range=(low, min(high, upper))))


@pytest.mark.parametrize("processes", [1, 3])
def test_centre_crops_are_the_compressed_centre(plate, processes):
    stats = plate.estimate(processes)
    table, store = plate.extract(processes=processes, um=0.6)
    assert (table["status"] == "ok").all() and (table["crops"] == 1).all() and len(store) == 24
    for row, (well, site) in enumerate(
        zip(store.table["Metadata_Well"], store.table["Metadata_Site"], strict=True)
    ):
        for channel, name in enumerate(CHANNELS):
            whole = reference(plate.raw(well, site, name), stats.upper[channel])
            np.testing.assert_array_equal(store.view(row)[channel], whole[32:64, 40:72])
    metadata = [name for name in plate.index if name.startswith("Metadata_")]
    expected = plate.index[metadata].drop(columns="Metadata_moa")
    assert store.table[expected.columns].astype(object).equals(expected.astype(object))
    assert store.table["Metadata_moa"].isna().all() and store.table["Quality_ok"].all()
    assert (store.table[["Crop_Y", "Crop_X"]] == [47.5, 55.5]).all(axis=None)
    assert store.settings["um_per_pixel"] == 0.6 and store.settings["kind"] == "centre"


def test_grid_and_channel_choice(plate):
    plate.estimate()
    table, store = plate.extract(settings={"kind": "grid"}, channels=["ER"])
    assert store.channels == ["ER"] and (table["crops"] == 3 * 4).all()
    first = store.table.iloc[:12]
    assert first["Metadata_Site"].nunique() == 1
    assert first["Crop_Y"].tolist() == np.repeat([15.5, 47.5, 79.5], 4).tolist()


def test_single_cells_from_given_nuclei_and_from_segmentation(plate, capsys):
    plate.estimate()
    nuclei = pd.DataFrame(
        [
            ("A01", 0, 30.2, 40.4),
            ("A01", 0, 60.0, 70.0),
            ("A01", 0, 8.0, 8.0),
            ("B02", 1, 48.0, 56.0),
        ],
        columns=["Metadata_Well", "Metadata_Site", "Y", "X"],
    )
    table, store = plate.extract(settings={"kind": "cells"}, nuclei=nuclei)
    assert store.settings["nuclei"] == "gallery"
    assert table["crops"].sum() == len(store) == 3
    assert store.table[["Crop_Y", "Crop_X"]].to_numpy().tolist() == [
        [30.2, 40.4],
        [60, 70],
        [48, 56],
    ]
    assert set(table["status"][table["crops"] == 0]) == {"no crop"}
    whole = reference(
        plate.raw("A01", 0, "DNA"), Illumination.load(plate.folder / "light.npz").upper[0]
    )
    np.testing.assert_array_equal(store.view(0)[0], whole[30 - 16 : 30 + 16, 40 - 16 : 40 + 16])

    # Sites without a cell are told and do not count as lost; a plate without nuclei is segmented.
    told = capsys.readouterr().err
    assert "lost A02 site 1: none of its 0 nuclei" in told and "segmented" not in told
    table, store = plate.extract(settings={"kind": "cells"}, nuclei=nuclei[:0])
    assert "source_3 0042: the gallery has no nuclei" in capsys.readouterr().err
    assert store.settings["nuclei"] == "segmented"
    assert (table["crops"] == 2).all()  # the third nucleus lies too near to the border
    found = store.table[["Crop_Y", "Crop_X"]].to_numpy().reshape(24, 2, 2)
    assert np.abs(found - np.array(plate.places[:2])).max() < 1
    np.testing.assert_allclose(found[0], segment_nuclei(plate.raw("A01", 0, "DNA"))[1:])


def test_common_pixel_size_rescales_and_keeps_places(plate):
    plate.estimate()
    table, store = plate.extract(um=0.6, settings={"um_per_pixel": 0.8, "size": 24})
    assert store.settings["um_per_pixel"] == 0.8 and store.settings["rescaled"]
    nuclei = pd.DataFrame({"Metadata_Well": "A01", "Metadata_Site": [0], "Y": 60.0, "X": 70.0})
    settings = {"um_per_pixel": 0.8, "size": 24, "kind": "cells"}
    _, store = plate.extract(um=0.6, settings=settings, nuclei=nuclei)
    bright = np.argwhere(store.view(0)[0] > 128)
    # A disk of radius 9 at 3/4 of the size, in the middle of its crop.
    assert np.abs(bright.mean(axis=0) - 12).max() < 1
    assert len(bright) == pytest.approx(np.pi * (9 * 0.75) ** 2, rel=0.1)


def test_the_gallerys_illumination_functions(plate):
    stats = plate.estimate()
    rng, paths = np.random.default_rng(5), [plate.folder / f"{name}.npy" for name in CHANNELS]
    for path in paths:
        np.save(path, rng.uniform(1, 2, (96, 112)).astype(np.float32))
    settings = {"illumination": "gallery"}
    _, store = plate.extract(settings=settings, functions=paths)
    whole = reference(plate.raw("A01", 0, "ER"), stats.upper[1], np.load(paths[1]))
    difference = np.abs(store.view(0)[1].astype(int) - whole[32:64, 40:72])
    assert difference.max() <= 1 and (difference == 0).mean() > 0.99
    assert store.settings["illumination"] == "gallery"
    with pytest.raises(UserError, match="0 illumination functions .* 2 channels"):
        plate.extract(settings=settings)
    np.save(paths[1], np.ones((5, 5)))
    with pytest.raises(UserError, match="ER.npy has size"):
        plate.extract(settings=settings, functions=paths)


def test_lost_sites_are_named_and_the_rest_goes_on(plate, capsys):
    (plate.images / "A01_s0_ER.tiff").write_bytes(bytes(5000))
    (plate.images / "A01_s1_DNA.tiff").unlink()
    tifffile.imwrite(plate.images / "A01_s2_DNA.tiff", np.ones((96, 112), np.uint8))
    tifffile.imwrite(plate.images / "B02_s0_ER.tiff", np.full((96, 112), 700, np.uint16))
    for channel in CHANNELS:
        odd = np.random.default_rng(0).integers(0, 9, (80, 80)).astype(np.uint16)
        tifffile.imwrite(plate.images / f"B04_s2_{channel}.tiff", odd)
    tifffile.imwrite(plate.images / "B04_s1_DNA.tiff", odd)
    absent = (plate.manifest["Metadata_Well"] == "B01") & (plate.manifest["channel"] == "ER")
    absent &= plate.manifest["Metadata_Site"] == 0
    plate.manifest.loc[absent, ["status", "reason"]] = "missing", "404"
    stats = plate.estimate()
    reasons = stats.sites.set_index(["Metadata_Well", "Metadata_Site"])[["status", "reason"]]
    lost = reasons[reasons["status"] != "ok"]
    assert lost.index.tolist() == [
        ("A01", 0),
        ("A01", 1),
        ("A01", 2),
        ("B01", 0),
        ("B02", 0),
        ("B04", 1),
        ("B04", 2),
    ]
    assert lost["status"].tolist() == ["broken"] * 3 + ["missing", "broken", "broken", "wrong size"]
    for text, words in zip(
        lost["reason"],
        [
            "ER .*zeros",
            "DNA .*absent",
            "DNA .*16 bits",
            "ER 404",
            "ER .*blank",
            "differ",
            "80 x 80 .* 112 x 96",
        ],
        strict=True,
    ):
        assert pd.Series(text).str.contains(words).all(), text
    table, store = plate.extract(processes=2)
    assert len(store) == 17 and table["status"].tolist() == stats.sites["status"].tolist()
    assert "source_3 0042: lost A01 site 0: ER" in capsys.readouterr().err
    assert len(stats.sites) == 24 and stats.size == (96, 112)

    with pytest.raises(UserError, match=r"source_3 0042 lost 7 of 24 .*gallery.max_lost = 0.2"):
        plate.estimate(max_lost=0.2)
    with pytest.raises(UserError, match="source_3 0042 has 17 usable .*crops.min_sites = 18"):
        plate.estimate(min_sites=18)


def test_a_plate_of_few_sites_is_not_corrected_unless_it_is_asked_for(plate):
    """The function of 24 sites is not 1, so crops tell whether it was applied."""
    plate.estimate()
    crops = {}
    for kind in ("none", "deepprofiler", "auto"):
        for least in (24, 25):
            settings = {"illumination": kind, "min_sites": least}
            crops[kind, least] = plate.extract(settings=settings)[1].gather(range(24))
    assert (crops["auto", 24] == crops["deepprofiler", 24]).all()
    assert (crops["auto", 25] == crops["none", 25]).all()
    assert (crops["auto", 24] != crops["auto", 25]).any()


def test_a_site_that_breaks_between_the_passes_is_lost(plate):
    plate.estimate()
    (plate.images / "B04_s2_ER.tiff").write_bytes(b"")
    table, store = plate.extract()
    assert len(store) == 23 and table.iloc[-1]["reason"] == "ER empty file"
    before = (plate.folder / "crops.arrow").read_bytes()
    with pytest.raises(UserError, match="gallery.max_lost"):
        plate.extract(max_lost=0)
    assert (plate.folder / "crops.arrow").read_bytes() == before


def test_a_job_killed_while_its_workers_cut_is_cleared_up_by_the_next(plate):
    plate.estimate()
    for name in ("index", "manifest"):
        getattr(plate, name).to_parquet(plate.folder / f"{name}.parquet")
    program = f"""
        import time
        from pathlib import Path
        import pandas as pd
        from coda.crops.extract import CropWriter, extract_crops
        def write(writer, metadata, pixels):
            print("begun", flush=True)
            time.sleep(60)
        CropWriter.write = write
        folder = Path({str(plate.folder)!r})
        tables = [pd.read_parquet(folder / f"{{name}}.parquet") for name in ("index", "manifest")]
        inputs = tables[0], folder / "images", tables[1], folder / "light.npz"
        extract_crops(*inputs, folder / "crops.arrow", {SETTINGS!r}, None, 2)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as job:
        assert job.stdout.readline() == b"begun\n"
        job.kill()
        job.communicate(timeout=60)  # its workers hold the pipe open until they have ended too
    assert len(list(plate.folder.glob(".crops.*.arrow"))) == 1
    _, store = plate.extract()
    assert len(store) == 24 and not list(plate.folder.glob(".crops.*.arrow"))


def test_settings_that_do_not_fit_are_refused(plate):
    plate.estimate()
    with pytest.raises(UserError, match=r"112 x 96 pixels.*crops.size = 100"):
        plate.extract(settings={"size": 100})
    with pytest.raises(UserError, match="crops.um_per_pixel"):
        plate.extract(settings={"um_per_pixel": 0.6})
    with pytest.raises(UserError, match="lacks the channel.*Mito"):
        plate.extract(channels=["DNA", "Mito"])
    with pytest.raises(UserError, match="source_3 0042 are not there: add DNA"):
        plate.extract(channels=["ER"], settings={"kind": "cells"})
    (plate.folder / "light.npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="light.npz"):
        plate.extract()


@given(
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 300, 60000])
)
def test_tail_percentiles_equal_numpys(seed, height, width, levels):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, (height * 8, width * 8)).astype(np.float32)
    expected = np.percentile(image.astype(np.float64), (0.05, 99.95))
    np.testing.assert_allclose(tail_percentiles(image), expected, rtol=1e-12)


def test_tail_percentiles_where_the_sample_misleads():
    image = np.zeros((1000, 970), np.float32)
    image[::2, ::97] = 5.0  # every 97th pixel is sampled; none of the others is bright
    image[0, 1:800] = np.linspace(6, 9, 799)
    np.testing.assert_allclose(tail_percentiles(image), np.percentile(image, (0.05, 99.95)))


@pytest.mark.parametrize("limits", [(100, 900), (100.3, 100.3), (500, 200), (0, 0), (0, 1e-3)])
def test_stretch_equals_scikit_images(limits):
    image = np.random.default_rng(0).uniform(0, 1000, (64, 64))
    expected = img_as_ubyte(rescale_intensity(image, in_range=limits))
    np.testing.assert_array_equal(stretch(image, *limits), expected)
    assert np.abs(stretch(image.astype(np.float32), *limits).astype(int) - expected).max() <= 1


def test_a_dark_plate_percentile_caps_the_stretch():
    image = np.tile(np.arange(0, 1000, dtype=np.uint16), (1000, 1))
    crop = compress(image, None, 500.0, image.shape, [(0, 0)], 1000)[0]
    assert (crop[:, 500:] == 255).all() and abs(int(crop[0, 250]) - 127) <= 1


def _square(state, item):
    return state * item**2


def _die(state, item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_is_spread_in_order_and_a_killed_worker_is_told():
    for processes in (1, 2):
        assert list(spread(_square, range(40), 3, processes)) == [3 * n * n for n in range(40)]
    with pytest.raises(UserError, match="memory"):
        list(spread(_die, range(4), None, 2))


def test_workers_of_a_killed_job_end_with_it():
    program = textwrap.dedent("""
        import os, time
        from coda.parallel import spread
        def work(state, item):
            time.sleep(0.05)
            return os.getpid()
        for pid in spread(work, range(10**6), None, 2):
            print(pid, flush=True)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as job:
        workers = {int(job.stdout.readline()) for _ in range(8)}
        assert len(workers) == 2 and job.pid not in workers
        job.kill()
    deadline = time.monotonic() + 20
    while (left := [pid for pid in workers if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def alive(pid):
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("processes", [1, 3])
def test_copied_images_are_found_in_the_table_of_sites(plate, processes):
    original = (plate.images / "B01_s0_DNA.tiff").read_bytes()
    for copy in ("B01_s0_ER.tiff", "B02_s1_DNA.tiff"):
        (plate.images / copy).write_bytes(original)
    (plate.images / "A01_s0_DNA.tiff").write_bytes(b"")
    sites = plate.estimate(processes).sites
    _, store = plate.extract()
    table = inspect_plate(
        plate.index, sites, store.table, CHANNELS, FLAGS, plate.folder / "q.parquet"
    )
    copies = find_copies(table)
    assert copies["kind"].tolist() == [CHANNEL_COPY, SITE_COPY]
    assert copies["Metadata_Well"].tolist() == ["B01", "B02"]
    assert set(copies["message"].str.partition(" has ")[2]) == {
        "the same pixels as source_3 0042 B01 site 0 DNA"
    }
    assert table.filter(like="Checksum_").isna().all(axis=1).sum() == 1  # of the lost site
