"""Plate maps of the sites lost: where, how many and why."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch

from coda.columns import PLATE_KEYS, WELL_KEYS, source_name
from coda.errors import UserError
from coda.figures.style import MM, TEXT, Drawing, new_figure, style
from coda.wells import plate_format, row_letters, well_place

COLOURS = ["#ffffff", "#cfe0f0", "#fdd9a8", "#f28e2b", "#a63603"]
WORDS = ["no site planned", "all sites there", "under half lost", "half or more lost", "all lost"]
ACROSS = 4


def sites_lost(quality: pd.DataFrame) -> Drawing:
    """Draw one small map for each plate, wells coloured by the share of their sites that were lost.

    Parameters
    ----------
    quality
        One row a site: Metadata_Source, Metadata_Plate, Metadata_Well, Metadata_Site and status,
        ``"ok"`` or what went wrong. Best drawn a source at a time.

    Returns
    -------
    Drawing
        The table has one row a well: sites, lost and statuses (counts of what went wrong).
    """
    if quality.empty:
        raise UserError("There is no planned site to draw; check which plates the config selects.")
    wells = _by_well(quality)
    plates = list(wells.groupby(PLATE_KEYS, sort=True))
    across = min(ACROSS, len(plates))
    rows = -(-len(plates) // across)
    with style():
        # The legend takes one line under four plates, two under fewer.
        below = 16 if across > 3 else 24
        figure = new_figure((below + 40 * rows) * MM, width=max(110, 45 * across) * MM)
        grid = figure.subplots(rows, across, squeeze=False).ravel()
        shape = plate_format(wells["row"].max() + 1, wells["column"].max() + 1)
        for axes, ((source, plate), part) in zip(grid, plates, strict=False):
            _plate(axes, part, shape)
            lost, total = part["lost"].sum(), part["sites"].sum()
            axes.set_title(
                f"{source_name(source)}\n{plate}\n{lost:,} of {total:,} lost", fontsize=TEXT
            )
        for axes in grid[len(plates) :]:
            axes.remove()
        keys = [Patch(facecolor=colour, edgecolor="#bbbbbb", linewidth=0.4) for colour in COLOURS]
        figure.legend(keys, WORDS, loc="outside lower center", ncols=5 if across > 3 else 3)
    return Drawing(figure, wells.drop(columns=["row", "column", "level"]))


def _by_well(quality: pd.DataFrame) -> pd.DataFrame:
    table = quality.assign(bad=quality["status"] != "ok")
    wells = table.groupby(WELL_KEYS).agg(sites=("bad", "size"), lost=("bad", "sum")).reset_index()
    faults = table[table["bad"]].groupby(WELL_KEYS)["status"].agg(_tally).rename("statuses")
    wells = wells.merge(faults, how="left", left_on=WELL_KEYS, right_index=True)
    places = [well_place(well) for well in wells["Metadata_Well"]]
    wells["row"], wells["column"] = zip(*places, strict=True)
    share = wells["lost"] / wells["sites"]
    wells["level"] = np.select([share == 0, share < 0.5, share < 1], [1, 2, 3], default=4)
    return wells


def _tally(statuses: pd.Series) -> str:
    return ", ".join(
        f"{status}: {count}" for status, count in statuses.value_counts().sort_index().items()
    )


def _plate(axes: Axes, wells: pd.DataFrame, shape: tuple[int, int]) -> None:
    levels = np.zeros(shape)
    levels[wells["row"], wells["column"]] = wells["level"]
    colours, norm = (
        ListedColormap(COLOURS),
        BoundaryNorm(np.arange(len(COLOURS) + 1) - 0.5, len(COLOURS)),
    )
    axes.pcolormesh(levels, cmap=colours, norm=norm, edgecolors="#ffffff", linewidth=0.3)
    axes.set(aspect="equal", ylim=(shape[0], 0))
    rows, columns = (0, shape[0] // 2 - 1, shape[0] - 1), (0, shape[1] // 2 - 1, shape[1] - 1)
    axes.set_yticks([row + 0.5 for row in rows], [row_letters(row) for row in rows])
    axes.set_xticks([column + 0.5 for column in columns], [column + 1 for column in columns])
    axes.tick_params(length=0, pad=1.5)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#bbbbbb")
