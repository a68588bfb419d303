"""Crops that were cut elsewhere become a store with the same pixels, whatever holds them."""

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.crops.image_copies import find_copies
from coda.crops.ready_crops import (
    MOST_BYTES,
    import_crops,
    index_crops,
    read_array,
    read_crop,
    read_rows,
)
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.gallery.tiff import BrokenImage
from coda.logs import warned
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

CHANNELS = ["DNA", "ER"]
FLAGS = {"blurred": None, "saturated": None, "blank": None, "cells": 1}
PLACES = [("B02", 1), ("B02", 1), ("B02", 2), ("C03", 1)]


def save(path, pixels):
    """Write a plane or a crop in the format of its name."""
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        Image.fromarray(pixels).save(path)


def write(folder, kind, suffix, dtype=np.uint8, size=32):
    """Four crops of three sites, with channels in files of their own, first or last; their pixels and table."""
    generator = np.random.default_rng(3)
    crops = generator.integers(1, 250, (4, 2, size, size)).astype(dtype)
    rows = []
    for number, ((well, site), crop) in enumerate(zip(PLACES, crops, strict=True)):
        row = {"Well": well, "Site": site, "Compound": {"B02": "x 7", "C03": "DMSO"}[well]}
        if kind == "apart":
            for channel, plane in zip(CHANNELS, crop, strict=True):
                row[channel] = f"{number}_{channel}{suffix}"
                save(folder / row[channel], plane)
        else:
            row["File"] = f"{number}{suffix}"
            save(folder / row["File"], crop if kind == "first" else np.moveaxis(crop, 0, -1))
        rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "crops.csv", index=False)
    return crops


def imported(folder, size=32, max_lost=0.0, kind="cells"):
    rows = read_rows(folder / "crops.csv", "P1", CHANNELS)
    index = index_crops(folder / "crops.csv", None, "lab", "b", "P1", CHANNELS)
    out, quality, manifest = (
        folder / "out" / name for name in ("P1.arrow", "q.parquet", "m.parquet")
    )
    settings = {"kind": kind, "size": size, "flags": FLAGS}
    import_crops(rows, index, CHANNELS, settings, 0.6, max_lost, out, quality, manifest)
    return index, CropStore([out]), pd.read_parquet(quality), pd.read_parquet(manifest)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("apart", ".png"), ("apart", ".tif"), ("apart", ".npy"), ("first", ".npy"), ("first", ".tif"), ("last", ".npy")],
)  # fmt: skip
def test_pixels_come_back_byte_for_byte(tmp_path, kind, suffix):
    crops = write(tmp_path, kind, suffix)
    index, store, quality, manifest = imported(tmp_path)
    assert (store.gather(range(4)) == crops).all()
    assert store.channels == CHANNELS and store.settings["um_per_pixel"] == 0.6
    assert store.table["Metadata_Well"].tolist() == ["B02", "B02", "B02", "C03"]
    assert store.table["Metadata_JCP2022"].tolist() == ["x 7"] * 3 + ["DMSO"]
    assert store.table["Metadata_pert_type"].tolist() == ["trt"] * 3 + ["negcon"]
    assert store.table["Quality_ok"].all()
    assert quality["crops"].tolist() == [2, 1, 1] and set(quality["status"]) == {"ok"}
    assert len(index) == 3 and len(manifest) == (8 if kind == "apart" else 4)
    assert manifest["bytes"].gt(0).all()


def test_sixteen_bits_are_stretched_by_the_plate_and_told(tmp_path):
    """The order of grey values stays; black and white are the percentiles of all crops."""
    crops = write(tmp_path, "apart", ".tif", np.uint16)
    with warned() as messages:
        _, store, _, _ = imported(tmp_path)
    assert "crops are uint16 and stretched to 8 bits" in messages[-1]
    stored = store.gather(range(4))
    assert stored.min() == 0 and stored.max() == 255
    for channel in range(2):
        order = np.argsort(crops[:, channel].ravel(), kind="stable")
        assert (np.diff(stored[:, channel].ravel()[order].astype(int)) >= 0).all()


@given(margin=st.integers(0, 9), size=st.integers(16, 24))
def test_larger_crops_lose_their_margins_evenly(tmp_path_factory, margin, size):
    folder = tmp_path_factory.mktemp("crops")
    crops = write(folder, "first", ".npy", size=size + margin)
    _, store, _, _ = imported(folder, size)
    top = margin // 2
    assert (store.gather(range(4)) == crops[:, :, top : top + size, top : top + size]).all()


def test_a_broken_crop_loses_its_site_up_to_the_limit(tmp_path):
    write(tmp_path, "apart", ".png")
    (tmp_path / "0_ER.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"lab P1 lost 1 of 3 sites, .*0_ER\.png cannot be read"):
        imported(tmp_path)
    _, store, quality, manifest = imported(tmp_path, max_lost=0.5)
    assert store.table["Metadata_Site"].tolist() == [2, 1]
    assert quality["status"].tolist() == ["broken", "ok", "ok"]
    assert (manifest["status"] == "broken").sum() == 4


def test_copies_are_found_as_among_images(tmp_path):
    write(tmp_path, "apart", ".png")
    (tmp_path / "3_ER.png").write_bytes((tmp_path / "2_DNA.png").read_bytes())
    _, _, quality, _ = imported(tmp_path)
    (copy,) = find_copies(quality).to_dict("records")
    assert copy["kind"] == "two sites" and copy["Metadata_Well"] == "C03"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda table: table.drop(columns="ER"),
            r"needs a column well and a column file, or one a",
        ),
        (lambda table: table.assign(ER=table["DNA"]), r"names .*0_DNA\.png twice"),
        (lambda table: table.assign(ER="gone.png").iloc[:1], r"1 of 2 files .* do not exist"),
        (lambda table: table.assign(ER=[None, *table["ER"][1:]]), "Row 1 of .* names no file"),
        (lambda table: table.assign(Well="Q"), "Row 1 of .* has the well 'Q'"),
        (lambda table: table.assign(Plate="P2"), "not clear which rows are those of P1"),
        (lambda table: table.drop(columns="Compound"), "lacks a column compound"),
    ],
)
def test_bad_tables_of_crops_get_one_sentence(tmp_path, change, word):
    write(tmp_path, "apart", ".png")
    table = change(pd.read_csv(tmp_path / "crops.csv"))
    table.to_csv(tmp_path / "crops.csv", index=False)
    with pytest.raises(UserError, match=word):
        imported(tmp_path)


def test_crops_that_are_too_small_are_refused(tmp_path):
    write(tmp_path, "first", ".npy")
    with pytest.raises(UserError, match="are 32 x 32 pixels, smaller than crops.size = 64"):
        imported(tmp_path, 64)


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (np.zeros((3, 20, 20), np.uint8), "2 channels are not the first or last axis"),
        (np.zeros((2, 20, 2), np.uint8), "2 channels are not the first or last axis"),
        (np.zeros((2, 20, 20), np.int64), "is int64; crops are of 8 or 16 bits"),
        (np.full((2, 20, 20), np.nan), "not finite"),
        (np.full((2, 20, 20), 1e300), "not finite"),
        (np.array([{}], dtype=object), "cannot be read"),
    ],
)
def test_crops_that_cannot_be_understood_are_named(tmp_path, pixels, word):
    np.save(tmp_path / "x.npy", pixels, allow_pickle=True)
    with pytest.raises(BrokenImage, match=word):
        read_crop((str(tmp_path / "x.npy"),), 2)


def png(bits, kind, rows, between=b""):
    """A PNG of 4 x 4 pixels, written by hand."""

    def chunk(name, data):
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    head = struct.pack(">IIBBBBB", 4, 4, bits, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), between, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(
    ("bits", "kind", "bytes_of_row"),
    [(16, 2, 24), (16, 6, 32), (16, 4, 16), (8, 4, 8), (8, 3, 4), (4, 0, 2), (1, 0, 1)],
)
def test_pngs_that_pillow_would_change_are_refused(tmp_path, bits, kind, bytes_of_row):
    """It cuts colours of 16 bits to 8, and gives places in a palette for grey values."""
    palette = (12).to_bytes(4) + b"PLTE" + bytes(range(12))
    palette += zlib.crc32(palette[4:]).to_bytes(4)
    rows = [bytes([row] * bytes_of_row) for row in range(4)]
    (tmp_path / "x.png").write_bytes(png(bits, kind, rows, palette if kind == 3 else b""))
    with pytest.raises(BrokenImage, match=f"a PNG of {bits} bits and colour type {kind}"):
        read_crop([str(tmp_path / "x.png")], 1)


@pytest.mark.parametrize(("bits", "kind"), [(8, 0), (16, 0), (8, 2), (8, 6)])
def test_other_pngs_are_read_to_the_bit(tmp_path, bits, kind):
    channels = {0: 1, 2: 3, 6: 4}[kind]
    pixels = (
        np.random.default_rng(1).integers(0, 2**bits, (4, 4, channels)).astype(f">u{bits // 8}")
    )
    (tmp_path / "x.png").write_bytes(png(bits, kind, [row.tobytes() for row in pixels]))
    crop = read_array(tmp_path / "x.png")
    np.testing.assert_array_equal(crop.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("name", ["JPEG", "TIFF", "BMP"])
def test_what_is_called_png_is_one(tmp_path, name):
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "x.png", name)
    with pytest.raises(BrokenImage, match="cannot be read"):
        read_crop([str(tmp_path / "x.png")], 1)


def test_an_array_larger_than_any_image_is_not_read(tmp_path):
    with open(tmp_path / "x.npy", "wb") as file:
        file.truncate(MOST_BYTES + 1)  # sparse
    with pytest.raises(BrokenImage, match="more than 536,936,448 bytes"):
        read_crop([str(tmp_path / "x.npy")], 1)


@pytest.mark.parametrize(
    ("photometric", "words"), [("miniswhite", "zero is white"), ("palette", "places in a palette")]
)
def test_tiffs_whose_values_are_not_grey_are_refused(tmp_path, photometric, words):
    colours = np.zeros((3, 256), np.uint16) if photometric == "palette" else None
    pixels = np.eye(9, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric=photometric, colormap=colours)
    with pytest.raises(BrokenImage, match=words):
        read_crop([str(tmp_path / "x.tif")], 1)


def test_strips_that_are_absent_are_no_zeros(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.full((9, 9), 7, np.uint8), rowsperstrip=3)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["StripByteCounts"]
        place, size = tag.valueoffset, {3: 2, 4: 4}[tag.dtype]
    content = bytearray(path.read_bytes())
    content[place + size : place + 2 * size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(BrokenImage, match="some of its pixels are absent"):
        read_crop([str(path)], 1)


def test_one_crop_among_others_that_is_a_copy_is_found(tmp_path):
    """Each crop of a site counts, not only all of them together."""
    write(tmp_path, "apart", ".png")
    (tmp_path / "3_ER.png").write_bytes((tmp_path / "1_ER.png").read_bytes())
    (tmp_path / "1_DNA.png").write_bytes((tmp_path / "0_DNA.png").read_bytes())
    _, _, quality, _ = imported(tmp_path)
    assert find_copies(quality)["kind"].tolist() == ["two crops", "two sites"]
