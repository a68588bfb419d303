"""On which plates the best method works: accuracies plate by plate."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from coda.columns import TRAIN, VALIDATION, source_name
from coda.evaluation.plate_accuracy import LEVELS
from coda.methods import method_name
from coda.report.findings import listed
from coda.report.front import best_method
from coda.report.words import HOME

USED = {TRAIN: "adapted to", VALIDATION: "held out"}


@dataclass(frozen=True)
class Share:
    """A cell of the table: a share in percent, and its interval as text; empty where there is none."""

    percent: float
    interval: str


@dataclass(frozen=True)
class PlateTable:
    """Accuracies plate by plate.

    Attributes
    ----------
    sentence : str
        The range over plates of other labs, and the plates that are clearly worse than at home.
    caption : str
        What the shares are of.
    methods : list of str
        Names of the columns of shares.
    rows : list of (plate, lab, used, shares)
        At home first, then other labs' plates, the worst first; a share is None where there is none.
    """

    sentence: str
    caption: str
    methods: list[str]
    rows: list[tuple[str, str, str, list[Share | None]]]


def plate_by_plate(
    by_plate: pd.DataFrame, summary: pd.DataFrame, level: str = "image"
) -> PlateTable | None:
    """Tabulate the unadapted pipeline and the best method of the first screen on every plate.

    Parameters
    ----------
    by_plate
        `coda.evaluation.plate_accuracy.plates_table`.
    summary, level
        As in `coda.report.front.front_page`.

    Returns
    -------
    PlateTable or None
        Nothing with several training sources, of which each has its own; nor at the level of compounds, which are
        gathered over plates; nor where nothing was scored on plates of other labs.
    """
    best = best_method(summary, level)
    rows = by_plate[by_plate["level"] == level]
    if best is None or level not in LEVELS or rows["train_source"].nunique() != 1:
        return None
    keys = ["Metadata_Source", "Metadata_Plate"]
    home = rows[rows["method"] == "in_domain"].sort_values(keys)
    away = rows[rows["method"] == best].sort_values(["value", *keys])
    away = away[away["Metadata_Source"] != away["train_source"]]
    plain = rows[rows["method"] == "unadapted"].set_index(keys)
    if away.empty:
        return None
    table = []
    for _, row in home.iterrows():
        lab = f"{source_name(row['Metadata_Source'])}, {HOME}"
        table.append((row["Metadata_Plate"], lab, USED[row["subset"]], [_share(row), None]))
    for _, row in away.iterrows():
        place = row["Metadata_Source"], row["Metadata_Plate"]
        before = _share(plain.loc[place]) if place in plain.index else None
        table.append((place[1], source_name(place[0]), USED[row["subset"]], [before, _share(row)]))
    caption = f"{level.capitalize()}s named right, with 95 % intervals over wells: at home, then the worst plate first."
    methods = ["as it is (unadapted)", method_name(best)]
    return PlateTable(_sentence(away, home, best), caption, methods, table)


def _share(row: pd.Series) -> Share:
    interval = "" if np.isnan(row["low"]) else f"{100 * row['low']:.0f} to {100 * row['high']:.0f}"
    return Share(round(100 * row["value"], 1), interval)


def _sentence(away: pd.DataFrame, home: pd.DataFrame, best: str) -> str:
    worst, top = away.iloc[0], away.iloc[-1]
    said = (
        f"With {method_name(best)}, plates of other labs range from {100 * worst['value']:.0f} % ({_name(worst)}) to "
        f"{100 * top['value']:.0f} % ({_name(top)})."
    )
    if home.empty or home["low"].isna().any() or away["high"].isna().any():
        return said
    below = away[away["high"] < home["low"].min()]
    if below.empty:
        return f"{said} None is clearly worse than {HOME}: their 95 % intervals reach up to it."
    names = listed([_name(row) for _, row in below.iterrows()], ", ")
    return f"{said} Clearly worse than {HOME}, by 95 % intervals that do not touch: {names}."


def _name(row: pd.Series) -> str:
    return f"{row['Metadata_Plate']} of {source_name(row['Metadata_Source'])}"
