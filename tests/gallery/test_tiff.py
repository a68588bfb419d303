"""Whole images are read to the bit, and nothing else passes for one."""

import errno
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from coda.errors import UserError
from coda.gallery.tiff import BrokenImage, check_header, opened, read_pages, read_tiff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from places import JUMP_FIELD


def image(height: int = 37, width: int = 53, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (height, width), dtype=np.uint16)


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_every_encoding_gives_the_same_pixels(tmp_path, compression, byteorder, bigtiff):
    options = {"predictor": 2} if compression in ("lzw", "zlib") else {}
    path = tmp_path / "image.tiff"
    path.write_bytes(
        encoded(
            image(),
            compression=compression,
            byteorder=byteorder,
            bigtiff=bigtiff,
            rowsperstrip=8,
            **options,
        )
    )
    check_header(path)
    read = read_tiff(path)
    assert read.dtype == np.dtype("uint16") and read.dtype.isnative
    np.testing.assert_array_equal(read, image())


def test_real_images_agree_with_another_decoder():
    if not JUMP_FIELD.is_dir():
        pytest.skip(f"the reference data are not at {JUMP_FIELD}")
    for path in sorted(JUMP_FIELD.glob("*.tiff")):
        read = read_tiff(path)
        assert read.shape == (1080, 1080)
        np.testing.assert_array_equal(read, np.array(Image.open(path)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (bytes(5000), "filled with zeros"),
        (b"<html>Please sign in</html>", "not a TIFF"),
        (b"II*\0", "truncated"),
        (encoded(np.zeros((20, 20), np.uint16)), "blank: every pixel is 0"),
        (encoded(np.full((20, 20), 7, np.uint16)), "blank: every pixel is 7"),
        (encoded(image().astype(np.uint8)), "not of 16 bits"),
        (encoded(image().astype(np.float32)), "not of 16 bits"),
        (encoded(np.stack([image()] * 3, axis=-1), photometric="rgb"), "not a single plane"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    path = tmp_path / "image.tiff"
    path.write_bytes(content)
    with pytest.raises(BrokenImage, match=reason):
        read_tiff(path)


def pages(*planes: np.ndarray, reduced: tuple[int, ...] = (), **options: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for number, plane in enumerate(planes):
            writer.write(
                plane, subfiletype=1 if number in reduced else 0, contiguous=False, **options
            )
    return buffer.getvalue()


@settings(
    max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.booleans(), min_size=1, max_size=5))
def test_the_one_full_page_is_read_and_several_are_refused(tmp_path, full):
    """Previews may stand before it, behind it or on both sides."""
    planes = [image(seed=n) if whole else image(8, 8, n) for n, whole in enumerate(full)]
    reduced = tuple(number for number, whole in enumerate(full) if not whole)
    path = tmp_path / "image.tiff"
    path.write_bytes(pages(*planes, reduced=reduced))
    if sum(full) == 1:
        check_header(path)
        np.testing.assert_array_equal(read_tiff(path), planes[full.index(True)])
    else:
        for read in (check_header, read_tiff):
            with pytest.raises(BrokenImage, match="several planes" if any(full) else "no page"):
                read(path)


@pytest.mark.parametrize("ome", [False, True])
def test_a_stack_is_refused_before_its_pixels_are_decoded(tmp_path, ome):
    path = tmp_path / "image.ome.tiff"
    path.write_bytes(encoded(np.stack([image(seed=n) for n in range(5)]), ome=ome))
    with pytest.raises(BrokenImage, match="several planes"):
        check_header(path)


@given(lowest=st.integers(-3, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_signed_pixels_are_read_if_none_is_negative(tmp_path, lowest):
    pixels = np.arange(lowest, lowest + 400, dtype=np.int16).reshape(20, 20)
    path = tmp_path / "image.tiff"
    path.write_bytes(encoded(pixels))
    if lowest < 0:
        with pytest.raises(BrokenImage, match="signed, with values below zero"):
            read_tiff(path)
    else:
        np.testing.assert_array_equal(read_tiff(path), pixels)
        assert read_tiff(path).dtype == np.uint16


def test_a_negative_of_an_image_is_refused(tmp_path):
    path = tmp_path / "image.tiff"
    path.write_bytes(encoded(image(), photometric="miniswhite"))
    with pytest.raises(BrokenImage, match="its zero is white"):
        read_tiff(path)


def test_a_missing_file_is_not_a_broken_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tiff(tmp_path / "image.tiff")


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cut=st.floats(0, 1, exclude_max=True), compression=st.sampled_from([None, "lzw", "zlib"]))
def test_truncated_anywhere_it_is_broken(tmp_path, cut, compression):
    whole = encoded(image(), compression=compression, rowsperstrip=8)
    path = tmp_path / "image.tiff"
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(BrokenImage):
        read_tiff(path)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.tuples(
        st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*", b"II+\0\x08\0\0\0"]), st.binary(max_size=200)
    ).map(b"".join)
)
def test_garbage_is_broken_and_nothing_worse(tmp_path, content):
    path = tmp_path / "image.tiff"
    path.write_bytes(content)
    with pytest.raises(BrokenImage):
        read_tiff(path)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_a_damaged_directory_is_broken_or_harmless(tmp_path, changes, bigtiff):
    content = bytearray(encoded(image(), rowsperstrip=8, bigtiff=bigtiff))
    for place, value in changes:
        content[place] = value
    path = tmp_path / "image.tiff"
    path.write_bytes(content)
    try:
        read = read_tiff(path)
    except BrokenImage:
        return
    assert read.dtype == np.uint16 and read.ndim == 2


def directory(*tags: tuple[int, int, int, int], behind: bytes = b"", then: int = 0) -> bytes:
    """A little-endian TIFF of one page: code, type, count and value of its tags, and bytes behind them."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    count = struct.pack("<H", len(tags))
    return b"II*\0\x08\0\0\0" + count + entries + struct.pack("<I", then) + behind


def claiming(side: int, compression: int, content: bytes, strips: int = 1) -> bytes:
    """A TIFF that claims a square of `side` pixels in strips that all have the same bytes."""
    rows = -(-side // strips)
    places = 8 + 2 + 9 * 12 + 4
    arrays = struct.pack(f"<{strips}I", *[places + 8 * strips] * strips)
    arrays += struct.pack(f"<{strips}I", *[len(content)] * strips)
    return directory(
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 16),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, strips, places if strips > 1 else places + 8),
        (277, 3, 1, 1),
        (278, 4, 1, rows),
        (279, 4, strips, places + 4 * strips if strips > 1 else len(content)),
        behind=arrays + content,
    )


def zeros(size: int) -> bytes:
    """The start of a zlib stream of `size` zeros or more: one block again and again, which is quicker."""
    squeeze = zlib.compressobj(9)
    first, more = (
        squeeze.compress(bytes(2**24)) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + more * (size // 2**24)


# Made where they are needed: some take seconds, and every process of the tests reads this file.
HOSTILE = {
    "claims a square of 32,768": (
        lambda: claiming(32768, 8, zeros(2**31)[: 2**21]),
        "claims 1073741824 pixels",
    ),
    "65,535 tags": (lambda: directory(*[(256, 4, 1, 9)] * 65535), "65535 tags"),
    "tags that share a value": (
        lambda: directory(*[(40000 + n, 7, 2**20, 16) for n in range(250)], behind=bytes(2**20)),
        "tags name",
    ),
    "strips that share their bytes": (
        lambda: claiming(
            4096, 8, zlib.compress(np.random.default_rng(0).bytes(2**20)), strips=4096
        ),
        "more bytes of pixels",
    ),
    "a strip that unpacks to more": (
        lambda: claiming(64, 8, zlib.compress(bytes(2**30), 9)),
        "truncated or damaged|blank|bytes of pixels",
    ),
    "an image within an image": (
        lambda: claiming(64, 34712, b"\0\0\0\x0cjP  "),
        "compression JPEG2000",
    ),
    "a ring of pages": (
        lambda: directory((254, 4, 1, 1), then=8, behind=bytes(64)),
        "damaged|no page",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_asks_for_too_much_is_refused_at_once(tmp_path, kind):
    content, reason = HOSTILE[kind]
    path = tmp_path / "image.tiff"
    path.write_bytes(content())
    tracemalloc.start()
    try:
        with pytest.raises(BrokenImage, match=reason):
            read_tiff(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_a_file_with_many_pages_is_not_opened_where_all_are_looked_at():
    with opened(io.BytesIO(pages(*[image(4, 4)] * 100))) as file:
        assert file.pages[0].shape == (4, 4)
    many = io.BytesIO(pages(*[image(4, 4)] * 100))
    with pytest.raises(BrokenImage, match="more than 64 pages"), opened(many, every_page=True):
        pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (MemoryError(), "memory ran out"),
    ],
)
def test_what_the_machine_lacks_costs_no_image(tmp_path, monkeypatch, error, words):
    """Else a job with too few open files would lose sites and end well."""
    tifffile.imwrite(tmp_path / "a.tif", np.arange(64, dtype=np.uint16).reshape(8, 8))

    def fail(*_: object, **__: object):
        raise error

    monkeypatch.setattr(tifffile.TiffPage, "asarray", fail)
    with pytest.raises(UserError, match=words):
        read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(9, 8), (3, 9, 8), (9, 8, 3)])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"ome": True}])
def test_pages_are_stacked_as_they_were_written(tmp_path, shape, options):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    kind = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric=kind, **options)
    np.testing.assert_array_equal(read_pages(tmp_path / "image.tif"), pixels)
    (tmp_path / "image.tif").write_bytes(HOSTILE["claims a square of 32,768"][0]())
    with pytest.raises(BrokenImage, match="claims"):
        read_pages(tmp_path / "image.tif")
