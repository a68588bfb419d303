"""The crop store: round trips, whole or not at all, refusal of what does not fit."""

import os
import pickle
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from coda.crops import store as store_module
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError

CHANNELS = ["DNA", "ER", "AGP"]
SETTINGS = {"kind": "centre", "um_per_pixel": 0.598}


def make(path, counts, seed=0, plate="1053597806", channels=CHANNELS, settings=SETTINGS, size=8):
    """Write a plate whose site i has counts[i] crops; give all pixels in order."""
    rng = np.random.default_rng(seed)
    written = []
    with CropWriter(path, channels, size, size, settings) as writer:
        for site, count in enumerate(counts):
            pixels = rng.integers(0, 256, (count, len(channels), size, size), dtype=np.uint8)
            metadata = {
                "Metadata_Plate": plate,
                "Metadata_Site": site,
                "Metadata_moa": None if site % 2 else "EGFR inhibitor",
                "Quality_Focus_DNA": -2.5 + site,
                "Quality_ok": site != 3,
                "Crop_X": np.arange(count, dtype=float),
            }
            writer.write(metadata, pixels)
            written.append(pixels)
    return np.concatenate(written)


def test_round_trip_in_order_with_types(tmp_path):
    counts = [2, 0, 1, 3, 1]
    pixels = make(tmp_path / "a.arrow", counts)
    store = CropStore([tmp_path / "a.arrow"])
    assert (len(store), store.channels, store.height, store.width) == (7, CHANNELS, 8, 8)
    assert store.settings == SETTINGS
    np.testing.assert_array_equal(store.gather(range(7)), pixels)
    table = store.table
    assert table["Metadata_Plate"].tolist() == ["1053597806"] * 7
    assert table["Metadata_Site"].tolist() == np.repeat(range(5), counts).tolist()
    assert table["Metadata_Site"].dtype == np.int64 and table["Quality_ok"].dtype == bool
    assert table["Metadata_moa"].isna().tolist() == [False, False, False, True, True, True, False]
    assert table["Crop_X"].tolist() == [0, 1, 0, 0, 1, 2, 0]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.arrow"]


@pytest.mark.parametrize("batch", [1, 500, 10**9])
def test_several_plates_and_batch_sizes_gather_alike(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(store_module, "BATCH_BYTES", batch)
    paths = [tmp_path / f"{name}.arrow" for name in "abc"]
    pixels = np.concatenate([make(path, [1, 2, 1, 4], seed) for seed, path in enumerate(paths)])
    store = CropStore(paths)
    wanted = np.random.default_rng(5).integers(0, len(pixels), 50)
    out = np.zeros((50, 3, 8, 8), np.uint8)
    assert store.gather(wanted, out) is out
    np.testing.assert_array_equal(out, pixels[wanted])
    for index in range(len(pixels)):
        np.testing.assert_array_equal(store.view(index), pixels[index])
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.gather(wanted), out)


def test_views_are_the_file_and_cannot_be_written(tmp_path):
    make(tmp_path / "a.arrow", [1, 1])
    store = CropStore([tmp_path / "a.arrow"])
    view = store.view(1)
    with warnings.catch_warnings():  # torch has no read-only tensors and says so
        warnings.simplefilter("ignore")
        tensor = torch.from_numpy(view)
    assert tensor.data_ptr() == view.ctypes.data and not view.flags.owndata
    before = pa.total_allocated_bytes()
    assert np.shares_memory(view, store.view(1)) and pa.total_allocated_bytes() == before
    with pytest.raises(ValueError, match="read-only"):
        view[:] = 0


def test_any_arrow_library_reads_it(tmp_path):
    pixels = make(tmp_path / "a.arrow", [1, 2])
    table = pa.ipc.open_file(tmp_path / "a.arrow").read_all()
    assert b"schema_version" in table.schema.metadata[b"coda"]
    raw = b"".join(table["pixels"].to_pylist())
    assert raw == pixels.tobytes()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.arrow"
    make(path, [1])
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"), CropWriter(path, CHANNELS, 8, 8, {}) as writer:
        writer.write({"Metadata_Site": 1}, np.zeros((1, 3, 8, 8), np.uint8))
        raise RuntimeError("stop")
    with pytest.raises(UserError, match="No crop is left"), CropWriter(path, CHANNELS, 8, 8, {}):
        pass
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.arrow"]


def test_a_killed_writer_leaves_no_file_and_the_next_clears_up(tmp_path):
    program = f"""
        import numpy as np, sys, time
        from coda.crops.store import CropWriter
        with CropWriter({str(tmp_path / "a.arrow")!r}, ["DNA"], 64, 64, {{}}) as writer:
            for site in range(10**6):
                writer.write({{"Metadata_Site": site}}, np.zeros((64, 1, 64, 64), np.uint8))
                if site == 100:
                    print("going", flush=True)
                if site > 100:
                    time.sleep(0.01)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert child.stdout.readline() == b"going\n"
    time.sleep(0.05)
    child.kill()
    child.communicate()
    assert not (tmp_path / "a.arrow").exists() and len(os.listdir(tmp_path)) == 1
    make(tmp_path / "a.arrow", [1])
    assert os.listdir(tmp_path) == ["a.arrow"]


def test_plates_that_do_not_fit_are_refused(tmp_path):
    make(tmp_path / "a.arrow", [1])
    make(tmp_path / "um.arrow", [1], settings={**SETTINGS, "um_per_pixel": 0.65})
    make(tmp_path / "nuclei.arrow", [1], settings={**SETTINGS, "nuclei": "segmented"})
    CropStore([tmp_path / "a.arrow", tmp_path / "um.arrow", tmp_path / "nuclei.arrow"])
    make(tmp_path / "channels.arrow", [1], channels=["DNA", "ER", "Mito"])
    make(tmp_path / "height.arrow", [1], size=9)
    make(tmp_path / "grid.arrow", [1], settings={**SETTINGS, "kind": "grid"})
    for name in ["channels", "height", "grid"]:
        with pytest.raises(UserError, match=f"{name}.arrow .*{name}.*same settings"):
            CropStore([tmp_path / "a.arrow", tmp_path / f"{name}.arrow"])


def test_broken_and_foreign_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="do not exist"):
        CropStore([tmp_path / "none.arrow"])
    make(tmp_path / "a.arrow", [3, 3])
    (tmp_path / "cut.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:-40])
    table = pa.table({"x": [1]})
    with pa.ipc.new_file(tmp_path / "foreign.arrow", table.schema) as writer:
        writer.write(table)
    for name in ["cut", "foreign"]:
        with pytest.raises(UserError, match="not a whole crop store"):
            CropStore([tmp_path / f"{name}.arrow"])
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", 2)
    with pytest.raises(UserError, match="format 1, this program reads 2"):
        CropStore([tmp_path / "a.arrow"])


def test_misuse_is_refused(tmp_path):
    make(tmp_path / "a.arrow", [2])
    store = CropStore([tmp_path / "a.arrow"])
    for wrong in [[-1], [2]]:
        with pytest.raises(IndexError):
            store.gather(wrong)
    with pytest.raises(ValueError, match="expected uint8"):
        store.gather([0], np.zeros((2, 3, 8, 8), np.uint8))
    assert store.gather([]).shape == (0, 3, 8, 8)
    with (
        pytest.raises(ValueError, match="differ"),
        CropWriter(tmp_path / "b", CHANNELS, 8, 8, {}) as w,
    ):
        w.write({"Metadata_Site": 1}, np.zeros((1, 3, 8, 8), np.uint8))
        w.write({"Metadata_Well": "A01"}, np.zeros((1, 3, 8, 8), np.uint8))
