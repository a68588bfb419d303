"""The gallery's own illumination functions: CellProfiler's, one ``*_Illum<channel>.npy`` per channel."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from coda.errors import UserError
from coda.files import replacing
from coda.gallery.arrays import read_npy
from coda.gallery.base import Entry, FetchError, Gallery

OUT = "set crops.illumination to deepprofiler, or leave the plate out (exclude_plates)"


def download_illumination(
    gallery: Gallery,
    index: pd.DataFrame,
    channels: Sequence[str],
    paths: Sequence[str | os.PathLike],
) -> None:
    """Fetch a plate's illumination functions.

    Parameters
    ----------
    gallery
        Where they lie.
    index
        The index of the plate.
    channels
        Names of the channels wanted.
    paths
        The files to make, one per channel.

    Raises
    ------
    UserError
        If the plate has no function of a channel, or one does not arrive or is no image.
    """
    source, plate = (index[f"Metadata_{name}"].iloc[0] for name in ("Source", "Plate"))
    try:
        found = list_functions(gallery, index, channels)
        if absent := [channel for channel in channels if channel not in found]:
            raise UserError(
                f"The gallery has no illumination function of {', '.join(absent)} for {source} "
                f"{plate} in {functions_folder(index)}; {OUT}."
            )
        for channel, path in zip(channels, paths, strict=True):
            key = found[channel].key
            content = gallery.read(key, found[channel])
            parse_function(content, key)
            with replacing(path) as temporary:
                temporary.write_bytes(content)
    except FetchError as error:
        raise UserError(
            f"The illumination functions of {source} {plate} did not arrive ({error}); "
            f"try again, or {OUT}."
        ) from error


def functions_folder(index: pd.DataFrame) -> str:
    """Name the folder of a plate's functions, ``<source>/images/<batch>/illum/<plate>``."""
    source, batch, plate = (
        index[f"Metadata_{name}"].iloc[0] for name in ("Source", "Batch", "Plate")
    )
    return f"{source}/images/{batch}/illum/{plate}"


def list_functions(
    gallery: Gallery, index: pd.DataFrame, channels: Sequence[str]
) -> dict[str, Entry]:
    """Find the functions of a plate by channel: the first whose name ends with ``_Illum<channel>.npy``."""
    entries = sorted(gallery.entries(functions_folder(index)), key=lambda entry: entry.key)
    found: dict[str, Entry] = {}
    for channel in channels:
        for entry in entries:
            if entry.key.endswith(f"_Illum{channel}.npy"):
                found.setdefault(channel, entry)
    return found


def read_functions(
    paths: Sequence[str | os.PathLike], size: tuple[int, int] | None = None
) -> list[np.ndarray]:
    """Read the files of `download_illumination`, float32 (H, W) each.

    Parameters
    ----------
    paths
        One file per channel.
    size
        Height and width that they must have.

    Raises
    ------
    UserError
        If a file is missing, is no illumination function or differs in size.
    """
    functions = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                function = parse_function(file.read(), path)
        except OSError as error:
            raise UserError(f"The illumination function {path} cannot be read: {error}.") from error
        if size is not None and function.shape != tuple(size):
            raise UserError(
                f"The illumination function {path} has size {function.shape}, but the plate's "
                f"images have size {tuple(size)}; {OUT}."
            )
        functions.append(function)
    return functions


def parse_function(content: bytes, name: str | os.PathLike) -> np.ndarray:
    """Give the function (H, W), float32, in the content of an ``.npy`` file.

    Raises
    ------
    UserError
        If it is not an image of positive numbers; `name` is for the message.
    """
    try:
        function = read_npy(content)
        function = np.asarray(function, np.float32)
        whole = function.ndim == 2 and bool(np.isfinite(function).all() and (function > 0).all())
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The illumination function {name} cannot be read: {error}; {OUT}."
        ) from error
    if not whole:
        raise UserError(
            f"The illumination function {name} is not an image of positive numbers; {OUT}."
        )
    return function
