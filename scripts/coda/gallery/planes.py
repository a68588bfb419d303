"""Channels within files: OME-TIFFs whose pages are the channels of a site, split where they are fetched."""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import tifffile

from coda.errors import UserError
from coda.gallery.base import BrokenObject, Entry, Fetched, FetchError, Gallery
from coda.gallery.tiff import BrokenImage, decode, opened

MARK = "::channel="  # between the key of a file and a channel within it


def plane_key(key: str, channel: str) -> str:
    """Name a channel within a file."""
    return f"{key}{MARK}{channel}"


def file_key(key: str) -> str:
    """Give the key of the file that holds an image."""
    return key.partition(MARK)[0]


def ome_channels(file: tifffile.TiffFile) -> list[tuple[str, tifffile.TiffPage]]:
    """Give name and page of each channel of an OME-TIFF with one plane and time.

    Channels are called by their names in the OME-XML or, where one has none or shares it, by numbers from 1.

    Raises
    ------
    BrokenImage
        If the metadata do not say unambiguously which page is which channel.
    """
    if not file.is_ome:
        raise BrokenImage("it has no OME metadata that say which page is which channel")
    if len(file.series) != 1:
        raise BrokenImage(f"it holds {len(file.series)} images; save one a file")
    (series,) = file.series
    if series.axes not in ("YX", "CYX"):
        raise BrokenImage(
            f"its axes are {series.axes}, but only channels may be several (one plane and time)"
        )
    pages = list(series.pages)
    count = series.shape[0] if series.axes == "CYX" else 1
    if len(pages) != count or any(page is None for page in pages):
        raise BrokenImage("some of its pages lie in other files")
    image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    channels = image["Pixels"].get("Channel", [])
    channels = channels if isinstance(channels, list | tuple) else [channels]
    names = [str(channel.get("Name", "")).strip() for channel in channels]
    if len(names) != count or "" in names or len({name.lower() for name in names}) < count:
        names = [str(number + 1) for number in range(count)]
    return list(zip(names, pages, strict=True))


def channels_within(gallery: Gallery, key: str) -> list[str]:
    """Give the names of the channels that a file holds.

    Raises
    ------
    UserError
        If it cannot be read, or does not say.
    """
    try:
        with opened(io.BytesIO(gallery.read(key)), every_page=True) as file:
            return [name for name, _ in ome_channels(file)]
    except FetchError as error:
        raise UserError(f"{key} cannot be read: {error}; try again.") from error
    except Exception as error:  # tifffile raises errors of many unrelated types
        raise UserError(
            f"{key} is not read as a file of several channels: {error}; save a TIFF a site and channel, and say in the "
            "pattern where the channel stands."
        ) from error


class PlanesOf(Gallery):
    """A gallery from which channels within files are fetched as files of their own."""

    def __init__(self, gallery: Gallery):
        self.gallery, self.root = gallery, gallery.root

    def read(self, key: str, listed: Entry | None = None) -> bytes:
        """See `Gallery.read`."""
        return self.gallery.read(key, listed)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Gallery.entries`."""
        return self.gallery.entries(prefix)

    def folders(self, prefix: str) -> list[str]:
        """See `Gallery.folders`."""
        return self.gallery.folders(prefix)

    def listed(self, keys: Iterable[str]) -> dict[str, Entry] | None:
        """See `Gallery.listed`; a channel within a file is listed as the file is."""
        keys = list(keys)
        found = self.gallery.listed({file_key(key) for key in keys})
        if found is None:
            return None
        return {key: found[file_key(key)] for key in keys if file_key(key) in found}

    def wait_longer(self) -> None:
        """See `Gallery.wait_longer`."""
        self.gallery.wait_longer()

    def stop(self) -> None:
        """See `Gallery.stop`."""
        self.gallery.stop()

    def fetch(self, key: str, path: Path, listed: Entry | None = None) -> Fetched:
        """Fetch an image, or the file that holds it, of which its page is kept; see `Gallery.fetch`."""
        holder, mark, channel = key.partition(MARK)
        if not mark:
            return self.gallery.fetch(key, path, listed)
        whole = Path(path).with_name(f"{Path(path).name}.whole")
        whole.unlink(missing_ok=True)
        try:
            fetched = self.gallery.fetch(holder, whole, listed)
            try:
                with open(whole, "rb") as handle, opened(handle, every_page=True) as file:
                    pages = dict(ome_channels(file))
                    if channel not in pages:
                        raise BrokenImage(f"its channels are {', '.join(pages)}, not {channel}")
                    pixels = decode(pages[channel])
            except UserError:  # the machine is short of something
                raise
            except (
                Exception
            ) as error:  # tifffile and its codecs raise errors of many unrelated types
                raise BrokenObject(f"channel {channel} cannot be read: {error}") from error
            tifffile.imwrite(path, pixels, metadata=None)
            return replace(fetched, bytes=os.path.getsize(path), md5=None)
        finally:
            whole.unlink(missing_ok=True)
