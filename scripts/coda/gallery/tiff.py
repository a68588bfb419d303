"""One rule for what counts as a whole microscope image, shared by downloading and cropping."""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
NUMBERS = {3: "H", 4: "I", 16: "Q"}  # types of TIFF that can hold an offset
OFFSETS, COUNTS = (
    {273, 324},
    {279, 325},
)  # tags: where strips or tiles begin, how many bytes they have


class BrokenImage(Exception):
    """An image that cannot be used; the message is the reason, in a few words."""


def check_header(path: str | os.PathLike) -> None:
    """Look at the beginning and the directory of a TIFF, in microseconds, without decoding it.

    This finds empty, zero-filled and truncated files and pages of HTML; `read_tiff` finds the rest.

    Raises
    ------
    BrokenImage
        If the file cannot be a whole TIFF.
    """
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        start = handle.read(16)
        if not start:
            raise BrokenImage("empty file")
        order = ORDERS.get(start[:4])
        if order is None:
            # The known bad files of the gallery are zeros from the first byte to the last.
            raise BrokenImage("not a TIFF" if any(start) else "filled with zeros")
        try:
            end = end_of_pixels(handle, size, start, order)
        except struct.error:
            raise BrokenImage(f"truncated: its directory is not within its {size} bytes") from None
        if end is None:
            raise BrokenImage("its directory names no pixels")
        if end > size:
            raise BrokenImage(f"truncated: its pixels end at byte {end}, the file has {size}")


def end_of_pixels(handle: BinaryIO, size: int, start: bytes, order: str) -> int | None:
    """Give the byte after the last pixel of the first page; None if its directory names none.

    By Adobe's TIFF 6.0 and the BigTIFF design, a directory is a count of entries, then entries of
    tag, type, number of values, and the values or, where they take more room than an offset does,
    their offset.
    """
    big = b"+" in start[:4]
    offset_type, count_type, entry_size = ("Q", "Q", 20) if big else ("I", "H", 12)
    room = struct.calcsize(offset_type)

    def values(kind: str, number: int, offset: int) -> tuple[int, ...]:
        layout = f"{order}{number}{kind}"
        if offset + struct.calcsize(layout) > size:  # before memory is taken for it
            raise struct.error
        handle.seek(offset)
        return struct.unpack(layout, handle.read(struct.calcsize(layout)))

    (directory,) = struct.unpack_from(order + offset_type, start, room)
    (entries,) = values(count_type, 1, directory)
    first = directory + struct.calcsize(count_type)
    found = {}
    for entry in range(first, first + entries * entry_size, entry_size):
        tag, kind = values("H", 2, entry)
        if tag in OFFSETS | COUNTS and kind in NUMBERS:
            (number,) = values(offset_type, 1, entry + 4)
            inside = number * struct.calcsize(NUMBERS[kind]) <= room
            where = entry + 4 + room
            place = where if inside else values(offset_type, 1, where)[0]
            found[tag in OFFSETS] = values(NUMBERS[kind], number, place)
    ends = [
        offset + count
        for offset, count in zip(found.get(True, ()), found.get(False, ()), strict=False)
    ]
    return max(ends, default=None)


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
        the pixels), not two-dimensional or not of 16 bits.
    FileNotFoundError
        If there is no such file.
    """
    check_header(path)
    try:
        with tifffile.TiffFile(Path(path)) as file:
            page = file.pages[0]
            check_page(page)
            image = page.asarray()
    except BrokenImage:
        raise
    except Exception as error:  # codecs raise errors of many unrelated types
        raise BrokenImage(f"cannot be decoded: {error}") from error
    image = image.astype(np.uint16, copy=False)
    if image.flat[0] == image.flat[-1] and image.min() == image.max():
        raise BrokenImage(f"blank: every pixel is {image.flat[0]}")
    return image


def check_page(page: tifffile.TiffPage) -> None:
    """Raise `BrokenImage` unless a page is a whole 16-bit plane."""
    if len(page.shape) != 2:
        raise BrokenImage(f"not a single plane: its shape is {page.shape}")
    if page.dtype != np.uint16:
        raise BrokenImage(f"not of 16 bits: its type is {page.dtype}")
    # tifffile fills segments that are absent with zeros instead of refusing them.
    counts = page.databytecounts
    if not page.size or len(counts) < math.prod(page.chunked) or min(counts) == 0:
        raise BrokenImage("some of its pixels are absent")
