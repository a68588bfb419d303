"""The crop store: round trips, whole or not at all, refusal of what does not fit."""

import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
import torch
from coda.crops import seal as seal_module
from coda.crops import store as store_module
from coda.crops.seal import OPEN, seal
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
    assert {path.name for path in tmp_path.iterdir()} == {"a.arrow", ".a.arrow.checked"}


def test_each_source_has_its_pixel_size(tmp_path):
    paths = []
    for source, um in (
        ("source_3", 0.598),
        ("source_5", 0.65),
        ("source_5", 0.7),
        ("source_8", None),
    ):
        paths.append(tmp_path / f"{len(paths)}.arrow")
        with CropWriter(paths[-1], ["DNA"], 4, 4, {"um_per_pixel": um}) as writer:
            writer.write({"Metadata_Source": source}, np.zeros((1, 1, 4, 4), np.uint8))
    store = CropStore(paths)
    sizes = [store.um_per_pixel(f"source_{number}") for number in (3, 5, 8, 11)]
    assert sizes == [0.598, 0.65, None, None]
    make(tmp_path / "nameless.arrow", [1])
    assert CropStore([tmp_path / "nameless.arrow"]).um_per_pixel("source_3") is None


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
    assert sorted(os.listdir(tmp_path)) == [".a.arrow.checked", "a.arrow"]


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
    assert sorted(os.listdir(tmp_path)) == [".a.arrow.checked", "a.arrow"]


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
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", 3)
    with pytest.raises(UserError, match="format 2, this program reads 3"):
        CropStore([tmp_path / "a.arrow"])


def test_misuse_is_refused(tmp_path):
    make(tmp_path / "a.arrow", [2])
    store = CropStore([tmp_path / "a.arrow"])
    for wrong in [[-1], [2]]:
        with pytest.raises(IndexError):
            store.gather(wrong)
    for shape in [(2, 3, 8, 8), (1, 3, 9, 4), (1, 2, 4, 4), (1, 3, 8)]:
        with pytest.raises(ValueError, match="expected uint8"):
            store.gather([0], np.zeros(shape, np.uint8))
    assert store.gather([]).shape == (0, 3, 8, 8)
    with (
        pytest.raises(ValueError, match="differ"),
        CropWriter(tmp_path / "b", CHANNELS, 8, 8, {}) as w,
    ):
        w.write({"Metadata_Site": 1}, np.zeros((1, 3, 8, 8), np.uint8))
        w.write({"Metadata_Well": "A01"}, np.zeros((1, 3, 8, 8), np.uint8))


def test_a_store_is_read_to_the_bit_or_refused_with_a_sentence(tmp_path):
    """Hundreds of mutations anywhere in the file: bits, bytes, cuts, moved and doubled parts."""
    path, rng = tmp_path / "a.arrow", random.Random(0)
    pixels = make(path, [2, 1, 3])
    whole, table = path.read_bytes(), CropStore([path]).table
    refused = 0
    for _ in range(500):
        content, place = bytearray(whole), rng.randrange(len(whole))
        kind = rng.randrange(4)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place : place + 8] = rng.randbytes(8)
        elif kind == 2:
            del content[place:]
        else:
            content[place:place] = content[place : place + rng.randrange(1, 64)]
        path.write_bytes(content)
        try:
            store = CropStore([path])
        except UserError:
            refused += 1
            continue
        np.testing.assert_array_equal(store.gather(range(6)), pixels)
        assert store.table.equals(table)
    assert refused > 480


def sealed(path, description, columns):
    """Write a store of one's own making that has a right checksum."""
    table = pa.table(columns)
    metadata = {"coda": json.dumps(description)}
    with pa.ipc.new_file(path, table.schema.with_metadata(metadata)) as writer:
        writer.write(table)
    with suppress(ValueError):
        seal(path)


WHOLE = {
    "schema_version": 2,
    "channels": ["DNA"],
    "height": 2,
    "width": 2,
    "settings": {"um_per_pixel": 0.6},
    "checksum": OPEN,
}
PIXELS = pa.array([b"abcd"], pa.binary(4))


@pytest.mark.parametrize(
    "change",
    [
        {"channels": None},
        {"channels": 5},
        {"channels": []},
        {"height": -2, "width": -2},
        {"height": "2"},
        {"height": 2**62},
        {"width": 0},
        {"settings": None},
        {"settings": [1]},
        {"schema_version": None},
        {"schema_version": 10**30},
        {"checksum": None},
        {"checksum": 5},
        {"checksum": ""},
        {"checksum": "x" * 64},
    ],
    ids=str,
)
def test_a_crafted_description_is_refused(tmp_path, change):
    sealed(tmp_path / "good.arrow", WHOLE, {"Crop_X": [1.0], "pixels": PIXELS})
    assert CropStore([tmp_path / "good.arrow"]).view(0).tobytes() == b"abcd"
    sealed(tmp_path / "a.arrow", WHOLE | change, {"Crop_X": [1.0], "pixels": PIXELS})
    with pytest.raises(UserError, match="a.arrow"):
        CropStore([tmp_path / "a.arrow"])
    for name in WHOLE:
        left = {key: value for key, value in WHOLE.items() if key != name}
        sealed(tmp_path / "a.arrow", left, {"Crop_X": [1.0], "pixels": PIXELS})
        with pytest.raises(UserError, match="a.arrow"):
            CropStore([tmp_path / "a.arrow"])


@pytest.mark.parametrize(
    "columns",
    [
        {"Crop_X": [1.0]},
        {"pixels": pa.array([b"abcd"], pa.binary())},
        {"pixels": pa.array([b"abcdef"], pa.binary(6))},
        {"pixels": pa.array(["abcd"])},
        {"pixels": pa.array([1])},
        {"pixels": pa.nulls(1)},
        {"pixels": pa.array([None], pa.binary(4))},
    ],
    ids=lambda columns: f"{next(iter(columns))} {type(next(iter(columns.values()))).__name__}",
)
def test_crafted_columns_are_refused(tmp_path, columns):
    sealed(tmp_path / "a.arrow", WHOLE, columns)
    with pytest.raises(UserError, match="a.arrow"):
        CropStore([tmp_path / "a.arrow"])


def test_a_store_is_compared_once_and_again_after_any_change(tmp_path, monkeypatch):
    path, read = tmp_path / "a.arrow", []
    make(path, [2, 1])
    real = seal_module._checksum
    monkeypatch.setattr(seal_module, "_checksum", lambda *part: read.append(1) or real(*part))
    CropStore([path])
    assert not read  # by whom it was written it was noted
    times = os.stat(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match="not what was written"):
        CropStore([path])
    make(path, [2, 1])
    (tmp_path / ".a.arrow.checked").write_text("no note")
    read.clear()
    for _ in range(3):
        CropStore([path])
    assert len(read) == 1
