"""Reading of microscope images: what counts as a whole one, for downloads and crops alike."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import tifffile

from coda.errors import raise_shortage

LARGEST = 2**28  # pixels of an image
# Little and big endian, TIFF and BigTIFF.
SIGNATURES = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


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
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        start = handle.read(16)
        if not start:
            raise BrokenImage("empty file")
        if start[:4] not in SIGNATURES:
            # The known bad files of the gallery are zeros from the first byte to the last.
            raise BrokenImage("not a TIFF" if any(start) else "filled with zeros")
        handle.seek(0)
        claimed = 0
        try:
            with tifffile.TiffFile(handle) as file:
                # Of the pages of a long stack two are looked at.
                full = [*islice((page for page in file.pages if not page.is_reduced), 2)]
                if len(full) != 1:
                    raise BrokenImage(
                        "it holds several planes; save a TIFF a site and channel"
                        if full
                        else "it holds no page of full size"
                    )
                page = full[0]
                claimed = math.prod(page.shape)
                places = zip(page.dataoffsets, page.databytecounts, strict=False)
                end = max((offset + count for offset, count in places), default=None)
                if end is None:
                    raise BrokenImage("its directory names no pixels")
                if end > size:
                    raise BrokenImage(
                        f"truncated: its pixels end at byte {end}, the file has {size}"
                    )
                yield page
        except BrokenImage:
            raise
        except Exception as error:  # tifffile and its codecs raise errors of many unrelated types
            # A file that claims more pixels than any camera has is itself at fault.
            if not isinstance(error, MemoryError) or claimed <= LARGEST:
                raise_shortage(error)
            raise BrokenImage(f"truncated or damaged: {error}") from error


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
        the pixels), not one two-dimensional plane, not of 16 bits, negative, or white where values are low.
    FileNotFoundError
        If there is no such file.
    """
    with only_page(path) as page:
        check_page(page)
        image = page.asarray()
    if image.dtype == np.int16 and image.min() < 0:
        raise BrokenImage("signed, with values below zero")
    image = image.astype(np.uint16, copy=False)
    if image.flat[0] == image.flat[-1] and image.min() == image.max():
        raise BrokenImage(f"blank: every pixel is {image.flat[0]}")
    return image


def check_page(page: tifffile.TiffPage) -> None:
    """Raise `BrokenImage` unless a page is a whole 16-bit plane."""
    if len(page.shape) != 2:
        raise BrokenImage(f"not a single plane: its shape is {page.shape}")
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise BrokenImage("its zero is white, not black")
    if page.dtype not in (np.uint16, np.int16):
        raise BrokenImage(f"not of 16 bits: its type is {page.dtype}")
    # tifffile fills segments that are absent with zeros instead of refusing them.
    counts = page.databytecounts
    if not page.size or len(counts) < math.prod(page.chunked) or min(counts) == 0:
        raise BrokenImage("some of its pixels are absent")
