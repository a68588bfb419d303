"""Reading of microscope images: what counts as a whole one, for downloads and crops alike.

All TIFFs are opened here. What a file claims of itself is compared with limits before anything is made of it, so that
no file takes more memory or time than the largest image that is read.
"""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

import numpy as np
import tifffile

from coda.errors import raise_shortage

# Little and big endian, TIFF and BigTIFF.
SIGNATURES = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


MOST_PIXELS = 2**26  # 8,192 squared; cameras of plate readers have up to 2,560 squared
MOST_SEGMENTS = 2**16  # strips or tiles
MOST_PAGES = 64  # looked at
MOST_TAGS = 256  # a page; the richest files of microscopes have about 60
# Of these, decoders stop at the size of a segment. An image within an image, as of JPEG, has a size of its own.
COMPRESSIONS = {
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.LZMA,
    tifffile.COMPRESSION.ZSTD,
    tifffile.COMPRESSION.ZSTD_DEPRECATED,
}
# Bytes of a value of each type that a tag can have.
TYPE_BYTES = dict(
    zip(range(1, 19), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 2, 8, 8, 8, 8), strict=True)
)


class BrokenImage(Exception):
    """An image that cannot be used; the message is the reason, in a few words."""


def check_header(path: str | os.PathLike) -> None:
    """Read the directory of a TIFF, in a fraction of a millisecond, without decoding its pixels.

    This finds empty, zero-filled and truncated files and pages of HTML; `read_tiff` finds the rest.

    Raises
    ------
    BrokenImage
        If the file cannot be a whole TIFF.
    """
    with only_page(path):
        pass


@contextmanager
def only_page(path: str | os.PathLike) -> Iterator[tifffile.TiffPage]:
    """Open the one page of a TIFF that is no reduced copy, all of whose pixels must lie within the file.

    Raises
    ------
    BrokenImage
        If there are several, as in a stack of planes or channels, if pixels lie beyond the end of the
        file, or if decoding them in the block fails.
    """
    with open(path, "rb") as handle, opened(handle) as file:
        size = os.fstat(handle.fileno()).st_size
        # Of the pages of a long stack two are looked at.
        pages = islice(file.pages, MOST_PAGES)
        full = [*islice((page for page in pages if not page.is_reduced), 2)]
        if len(full) != 1:
            raise BrokenImage(
                "it holds several planes; save a TIFF a site and channel"
                if full
                else "it holds no page of full size"
            )
        page = full[0]
        places = zip(page.dataoffsets, page.databytecounts, strict=False)
        end = max((offset + count for offset, count in places), default=None)
        if end is None:
            raise BrokenImage("its directory names no pixels")
        if end > size:
            raise BrokenImage(f"truncated: its pixels end at byte {end}, the file has {size}")
        yield page


@contextmanager
def opened(handle: BinaryIO, every_page: bool = False) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF whose directories are within limits; other files that it names are not looked at.

    Parameters
    ----------
    handle
        The file, at its beginning.
    every_page
        Whether more pages are going to be looked at than the first `MOST_PAGES`, so that there must be no more.

    Raises
    ------
    BrokenImage
        If it is none, if a limit is passed, or if reading it in the block fails.
    """
    start = handle.read(16)
    if not start:
        raise BrokenImage("empty file")
    if start[:4] not in SIGNATURES:
        # The known bad files of the gallery are zeros from the first byte to the last.
        raise BrokenImage("not a TIFF" if any(start) else "filled with zeros")
    try:
        if not _check_directories(handle) and every_page:
            raise BrokenImage(f"it has more than {MOST_PAGES} pages")
        handle.seek(0)
        with tifffile.TiffFile(handle, _multifile=False) as file:
            yield file
    except BrokenImage:
        raise
    except Exception as error:  # tifffile and its codecs raise errors of many unrelated types
        raise_shortage(error)
        raise BrokenImage(f"truncated or damaged: {error}") from error


def _check_directories(handle: BinaryIO) -> bool:
    """Refuse directories with more tags, or bytes of values, than a file has in earnest; whether these were all."""
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    order = "<" if handle.read(2) == b"II" else ">"
    big = struct.unpack(order + "H", handle.read(2))[0] == 43
    handle.seek(8 if big else 4)
    offset_format, count_format, entry = ("Q", "Q", "HHQQ") if big else ("I", "H", "HHII")
    offset_format, count_format, entry = (
        order + each for each in (offset_format, count_format, entry)
    )

    def read(layout: str) -> int:
        return struct.unpack(layout, handle.read(struct.calcsize(layout)))[0]

    offset, bytes_named, length = read(offset_format), 0, struct.calcsize(entry)
    for _ in range(MOST_PAGES):
        if not offset:
            return True
        handle.seek(offset)
        count = read(count_format)
        if count > MOST_TAGS:
            raise BrokenImage(f"a page has {count} tags; at most {MOST_TAGS} are read")
        entries = handle.read(count * length)
        for _code, kind, values, _place in struct.iter_unpack(
            entry, entries[: len(entries) // length * length]
        ):
            bytes_named += values * TYPE_BYTES.get(kind, 0)
        if bytes_named > size:
            raise BrokenImage(
                f"truncated or damaged: its tags name {bytes_named} bytes, the file has {size}"
            )
        offset = read(offset_format)
    return not offset


def read_pages(path: str | os.PathLike) -> np.ndarray:
    """Decode the pages of a TIFF that are of one shape, stacked where they are several.

    Raises
    ------
    BrokenImage
        As `opened` and `decode`, of all pages together.
    """
    with open(path, "rb") as handle, opened(handle, every_page=True) as file:
        series = file.series[0]
        if series.size > MOST_PIXELS:
            raise BrokenImage(f"it claims {series.size} pixels; at most {MOST_PIXELS} are read")
        pages = [decode(page) for page in file.pages]
        if (
            len({page.shape for page in pages}) > 1
            or sum(page.size for page in pages) != series.size
        ):
            raise BrokenImage("its pages are not of one shape")
        return np.stack(pages).reshape(series.shape)


def decode(page: tifffile.TiffPage) -> np.ndarray:
    """Decode the pixels of a page, if that takes no more memory and time than the largest image that is read.

    Raises
    ------
    BrokenImage
        If the page claims too many pixels, segments or bytes, lacks some of them, or if its compression is none of
        `COMPRESSIONS`; if its pixels are no grey values with black at zero.
    """
    if page.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise BrokenImage("its zero is white, not black")
    if page.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise BrokenImage("its pixels are places in a palette, not grey values")
    if page.compression not in COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        raise BrokenImage(f"its compression {name} is not read; save it with LZW or none")
    segments = math.prod(page.chunked)
    claimed = max(page.size, segments * math.prod(page.chunks))
    if claimed > MOST_PIXELS:
        raise BrokenImage(
            f"it claims {claimed} pixels ({' x '.join(map(str, page.shape))}); at most {MOST_PIXELS} are read"
        )
    if max(segments, len(page.databytecounts)) > MOST_SEGMENTS:
        raise BrokenImage(f"it has {segments} strips or tiles; at most {MOST_SEGMENTS} are read")
    # The worst that LZW makes of noise is half more. Strips that share their bytes could be far more.
    most = 2 * claimed * page.dtype.itemsize + 4096 * segments
    if sum(page.databytecounts) > most:
        raise BrokenImage(f"it has more bytes of pixels than {segments} strips or tiles can need")
    # tifffile fills segments that are absent with zeros instead of refusing them.
    if not page.size or len(page.databytecounts) < segments or min(page.databytecounts) == 0:
        raise BrokenImage("some of its pixels are absent")
    return page.asarray()


def read_tiff(path: str | os.PathLike) -> np.ndarray:
    """Decode a single-channel 16-bit image.

    Parameters
    ----------
    path
        A TIFF file, compressed or not.

    Returns
    -------
    numpy.ndarray
        Grey values, uint16 of shape (height, width), in the byte order of the machine.

    Raises
    ------
    BrokenImage
        If the file is unreadable, truncated, blank (one value throughout, as where zeros replace
        the pixels), not one two-dimensional plane, not of 16 bits, negative, or white where values
        are low; or if it passes the limits of `opened` or `decode`.
    FileNotFoundError
        If there is no such file.
    """
    with only_page(path) as page:
        check_page(page)
        image = decode(page)
    if image.dtype == np.int16 and image.min() < 0:
        raise BrokenImage("signed, with values below zero")
    image = image.astype(np.uint16, copy=False)
    if image.flat[0] == image.flat[-1] and image.min() == image.max():
        raise BrokenImage(f"blank: every pixel is {image.flat[0]}")
    return image


def check_page(page: tifffile.TiffPage) -> None:
    """Raise `BrokenImage` unless a page is a 16-bit plane."""
    if len(page.shape) != 2:
        raise BrokenImage(f"not a single plane: its shape is {page.shape}")
    if page.dtype not in (np.uint16, np.int16):
        raise BrokenImage(f"not of 16 bits: its type is {page.dtype}")
