"""Maps of plates: each well in the colour of its call, and of its confidence."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from coda.columns import PLATE_KEYS
from coda.wells import plate_format, row_letters, well_place

# Okabe and Ito's colours, which colour-blind readers can tell apart; of the most frequent calls, in this order.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
OTHER, ABSTAINS, CONTROL = "#8a8a8a", "#ffffff", "#d9d9d9"
# Confidence from 0 to 1.
PALE, DEEP = np.array([247, 251, 255]), np.array([8, 48, 107])


@dataclass(frozen=True)
class Well:
    """A well on a map: its place from 0, its words and its two colours."""

    row: int
    column: int
    words: str
    by_call: str
    by_confidence: str
    control: bool


@dataclass(frozen=True)
class PlateMap:
    """The wells of a plate that have calls, on the smallest usual plate."""

    name: str
    rows: list[str]
    columns: list[int]
    wells: list[Well]


def colours_of_calls(wells: pd.DataFrame) -> dict[str, str]:
    """Give the most frequent calls of wells their colours, those of others apart."""
    calls = wells.loc[(wells["call"] != "") & (wells["Metadata_pert_type"] != "negcon"), "call"]
    return dict(zip(calls.value_counts().index, PALETTE, strict=False))


def plate_maps(wells: pd.DataFrame) -> list[PlateMap]:
    """Draw each plate of some calls.

    Parameters
    ----------
    wells
        Rows of calls with the level well, see `coda.predict.calls.call_mechanisms`.
    """
    colours, maps = colours_of_calls(wells), []
    for (source, plate), mine in wells.groupby(PLATE_KEYS, sort=True):
        places = [well_place(well) for well in mine["Metadata_Well"]]
        high, wide = plate_format(*(max(place) + 1 for place in zip(*places, strict=True)))
        drawn = []
        for (row, column), well in zip(places, mine.to_dict("records"), strict=True):
            control = well["Metadata_pert_type"] == "negcon"
            call, sure = well["call"], float(well["probability_1"])
            colour = colours.get(call, OTHER) if call else ABSTAINS
            drawn.append(
                Well(
                    row,
                    column,
                    words(well, control),
                    CONTROL if control else colour,
                    CONTROL if control else (mixed(sure) if not np.isnan(sure) else ABSTAINS),
                    control,
                )
            )
        rows = [row_letters(row) for row in range(high)]
        maps.append(PlateMap(f"{source} {plate}", rows, [*range(1, wide + 1)], drawn))
    return maps


def words(well: dict, control: bool) -> str:
    """Say what a well holds and how it is called."""
    held = well["Metadata_JCP2022"] if isinstance(well["Metadata_JCP2022"], str) else "no compound"
    if control:
        return f"{well['Metadata_Well']}: {held}, a negative control"
    said = well["call"] or f"no call ({well['abstains']})"
    if np.isnan(well["probability_1"]):
        return f"{well['Metadata_Well']}: {held}, {said}"
    return f"{well['Metadata_Well']}: {held}, {said}, {well['moa_1']} {well['probability_1']:.2f}"


def mixed(share: float) -> str:
    """Give the colour of a confidence."""
    red, green, blue = np.round(PALE + np.clip(share, 0, 1) * (DEEP - PALE)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
