"""Crops of a compound beside negative controls and the nearest known compound, all on one contrast."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from coda.columns import PLATE_KEYS, WELL_KEYS
from coda.crops.composite import composites, stretched
from coda.crops.store import CropStore
from coda.predict.pack import shrunk

COMPOUND, NAME, KIND = "Metadata_JCP2022", "Metadata_pert_iname", "Metadata_pert_type"
PER_PANEL = 4  # crops side by side
GAP = 2  # pixels between them
TILE = 72  # pixels of the page that a crop is wide: four panels stand side by side


@dataclass(frozen=True)
class Panel:
    """Some crops in a picture.

    Attributes
    ----------
    title : str
        What they show.
    url : str or None
        The picture as a data URL: a crop a column, first all channels in colour, then each; None without crops.
    shown : str
        Where the crops are from, or why there are none.
    width : int
        Of the picture, in pixels of the page, so that crops are equally large in all.
    """

    title: str
    url: str | None
    shown: str
    width: int


def crop_panels(
    compound: str, nearest: str, store: CropStore, thumbnails: pd.DataFrame
) -> list[Panel]:
    """Show a compound, the negative controls of its plates, and the nearest training compound with its own controls.

    Parameters
    ----------
    compound
        Its Metadata_JCP2022.
    nearest
        Name of the nearest training compound, as calls give it.
    store
        Crops of the target.
    thumbnails
        Small crops of the training source, as `coda.predict.pack.thumbnails` makes them.

    Returns
    -------
    list of Panel
        Four. Black and white of each channel are the same in all of them.
    """
    table = store.table.reset_index(drop=True)
    good = table[table["Quality_ok"].to_numpy(bool)] if "Quality_ok" in table else table
    own = one_a_well(good[good[COMPOUND] == compound])
    plates = pd.MultiIndex.from_frame(own[PLATE_KEYS])
    beside = pd.MultiIndex.from_frame(good[PLATE_KEYS]).isin(plates)
    controls = one_a_well(good[beside & (good[KIND] == "negcon").to_numpy()])
    names = thumbnails[NAME].fillna(thumbnails[COMPOUND])
    known = thumbnails[names == nearest].iloc[:PER_PANEL]
    home = thumbnails[thumbnails[KIND] == "negcon"].iloc[:PER_PANEL]
    groups = [
        ("This compound", own, "It has no crop of good quality."),
        ("Negative controls of its plates", controls, "These plates have none of good quality."),
        (f"Nearest known compound: {nearest}", known, "The pack has no crops of it."),
        ("Negative controls of the training source", home, "The pack has no crops of them."),
    ]
    crops = [
        [shrunk(store.view(int(row))) for row in rows.index]
        if number < 2
        else [unpacked(row, len(store.channels)) for row in rows.to_dict("records")]
        for number, (_, rows, _) in enumerate(groups)
    ]
    side = min((crop.shape[-1] for group in crops for crop in group), default=0)
    sized = [[middle(crop, side) for crop in group] for group in crops]
    together = [crop for group in sized for crop in group]
    pixels = stretched(np.stack(together)) if together else np.empty(0)
    panels, start = [], 0
    for (title, rows, without), group in zip(groups, sized, strict=True):
        mine = pixels[start : start + len(group)]
        start += len(group)
        wells = ", ".join(rows["Metadata_Plate"] + " " + rows["Metadata_Well"])
        url = picture(mine, store.channels) if len(group) else None
        width = len(group) * (side + GAP) - GAP
        panels.append(Panel(title, url, wells or without, round(TILE / max(side, 1) * width)))
    return panels


def one_a_well(table: pd.DataFrame) -> pd.DataFrame:
    """Choose rows of as many wells and plates as there are, `PER_PANEL` at most."""
    rows = table.assign(crop=table.groupby(WELL_KEYS).cumcount(), well=~table.duplicated(WELL_KEYS))
    rows["turn"] = rows.groupby([*PLATE_KEYS, "crop"]).cumcount()
    return rows.sort_values(["crop", "turn"], kind="stable").iloc[:PER_PANEL]


def unpacked(row: dict, channels: int) -> np.ndarray:
    """Give the pixels of a thumbnail, uint8 (C, Side, Side)."""
    return np.frombuffer(row["Pixels"], np.uint8).reshape(channels, row["Side"], row["Side"])


def middle(crop: np.ndarray, side: int) -> np.ndarray:
    """Cut the middle of a crop."""
    start = (crop.shape[-1] - side) // 2
    return crop[:, start : start + side, start : start + side]


def picture(pixels: np.ndarray, channels: list[str]) -> str:
    """Draw stretched crops (N, C, S, S), a column each: in colour, then channel by channel."""
    rows = [composites(pixels, channels)] if len(channels) > 1 else []
    rows += [np.repeat(plane[..., None], 3, axis=3) for plane in np.moveaxis(pixels, 1, 0)]
    count, side = len(pixels), pixels.shape[-1]
    whole = np.ones((len(rows) * (side + GAP) - GAP, count * (side + GAP) - GAP, 3), np.float32)
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            top, left = down * (side + GAP), across * (side + GAP)
            whole[top : top + side, left : left + side] = tile
    content = io.BytesIO()
    Image.fromarray(np.round(whole * 255).astype(np.uint8)).save(content, "WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
