"""Where the networks look: attention over crops of both sources, and what blanking a channel does to their calls."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure

from coda.columns import SITE_KEYS, source_name
from coda.crops.composite import composites, stretched
from coda.crops.store import CropStore
from coda.evaluation.attention import CHANGE
from coda.figures.style import MM, SEQUENTIAL, TEXT, Drawing, new_figure, style
from coda.methods import BEFORE_AFTER, method_name

LINE = 19  # characters of a mechanism in one line
ROW = 17.5 * MM
CHANGES = "RdBu_r"
LEAST = 10.0  # points of probability at the end of the scale, at least


def attention_figure(
    explanations: pd.DataFrame, home: CropStore, target: CropStore, size: int
) -> Drawing:
    """Draw a row a mechanism: a crop of each source with the attention over it, and what blanking a channel does.

    Attention is relative to an even one over all patches. Changes are means over the mechanism's crops.

    Parameters
    ----------
    explanations
        What `coda.evaluation.attention.explain_pair` gives.
    home, target
        Crops of the training source and of the target, among them all sites of the table.
    size
        Side in pixels of what the networks see, in the middle of a crop.

    Returns
    -------
    Drawing
        The table has a row a crop and method, with the call and the changes; drawn: whether the crop is shown.
    """
    sources = [store.table["Metadata_Source"].iloc[0] for store in (home, target)]
    at_home = explanations["Metadata_Source"] == sources[0]
    before, after = (explanations["Method"] == method for method in BEFORE_AFTER)
    panels = [explanations[rows] for rows in (at_home, before & ~at_home, after)]
    moas = sorted(explanations["Metadata_moa"].unique())
    # Crops are in one order for all methods, so the first is the same before and after.
    first = [panel.drop_duplicates("Metadata_moa").set_index("Metadata_moa") for panel in panels]
    lab, other = map(source_name, sources)
    unadapted, adapted = map(method_name, BEFORE_AFTER)
    with style():
        figure = new_figure(len(moas) * ROW + 32 * MM)
        left, right = figure.subfigures(1, 2, width_ratios=[0.6, 0.4])
        pictures = [
            _pictures(store, rows, size)
            for store, rows in zip((home, target), first[:2], strict=True)
        ]
        maps = [_relative(rows) for rows in first]
        columns = {
            f"{lab}\n ": pictures[0],
            f"attention,\n{unadapted.lower()}": maps[0],
            f"{other}\n ": pictures[1],
            f"attention,\n{unadapted.lower()} ": maps[1],
            f"attention,\n{adapted}": maps[2],
        }
        _draw_tiles(left, columns, moas)
        titles = [f"{lab},\n{unadapted.lower()}", f"{other},\n{unadapted.lower()}"]
        _draw_changes(right, dict(zip([*titles, f"{other},\n{adapted}"], panels, strict=True)), moas)
    drawn = explanations.index.isin(
        np.concatenate([panel.drop_duplicates("Metadata_moa").index for panel in panels])
    )
    return Drawing(figure, explanations.drop(columns="Attention").assign(drawn=drawn))


def _pictures(store: CropStore, rows: pd.DataFrame, size: int) -> dict[str, np.ndarray]:
    """Give the middle of a crop of each mechanism in colour."""
    if rows.empty:
        return {}
    places = store.table[SITE_KEYS].reset_index(names="crop").drop_duplicates(SITE_KEYS)
    found = rows.reset_index()[["Metadata_moa", *SITE_KEYS]].merge(places, on=SITE_KEYS, how="left")
    crops = store.gather(found["crop"].to_numpy())
    top, start = ((side - size) // 2 for side in crops.shape[2:])
    crops = crops[:, :, top : top + size, start : start + size]
    return dict(zip(found["Metadata_moa"], composites(stretched(crops), store.channels), strict=True))


def _relative(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Give the attention of a crop of each mechanism relative to its mean over the patches, as squares."""
    maps = {}
    for moa, shares in rows["Attention"].items():
        side = round(np.sqrt(len(shares)))
        maps[moa] = np.reshape(shares, (side, side)) / np.mean(shares)
    return maps


def _draw_tiles(
    figure: SubFigure, columns: dict[str, dict[str, np.ndarray]], moas: Sequence[str]
) -> None:
    values = [tile for tiles in columns.values() for tile in tiles.values() if tile.ndim == 2]
    most = np.nan_to_num(np.quantile(np.stack(values), 0.99), nan=2)
    scale = ScalarMappable(Normalize(0, max(2.0, most)), "cividis")
    grid = figure.subplots(len(moas), len(columns), squeeze=False)
    for column, (title, tiles) in zip(grid.T, columns.items(), strict=True):
        column[0].set_title(title.rstrip(" "), fontsize=TEXT)
        for axes, moa in zip(column, moas, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if moa in tiles:
                axes.imshow(tiles[moa], norm=scale.norm, cmap=scale.cmap, interpolation="nearest")
            else:
                axes.set_box_aspect(1)
    for axes, moa in zip(grid[:, 0], moas, strict=True):
        axes.set_ylabel("\n".join(wrap(moa, LINE)), rotation=0, ha="right", va="center")
    bar = figure.colorbar(scale, ax=grid, location="bottom", shrink=0.5, aspect=30)
    bar.set_label("attention, times an even one")
    bar.outline.set_visible(False)


def _draw_changes(
    figure: SubFigure, panels: dict[str, pd.DataFrame], moas: Sequence[str]
) -> None:
    means = {
        title: 100 * panel.groupby("Metadata_moa").mean(numeric_only=True).filter(like=CHANGE).reindex(moas)
        for title, panel in panels.items()
    }  # fmt: skip
    most = max(LEAST, *(np.nanmax(np.abs(table.to_numpy())) for table in means.values() if table.notna().any(axis=None)))  # fmt: skip
    grid = figure.subplots(1, len(means), sharey=True, squeeze=False)[0]
    for axes, (title, table) in zip(grid, means.items(), strict=True):
        image = axes.imshow(table, cmap=CHANGES, vmin=-most, vmax=most, aspect="auto")
        channels = [name.removeprefix(CHANGE) for name in table]
        axes.set_xticks(range(len(channels)), channels, rotation=90)
        axes.set_yticks([])
        axes.set_title(title, fontsize=TEXT)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        _write(axes, table.to_numpy(), most)
    bar = figure.colorbar(image, ax=list(grid), location="bottom", shrink=0.7, aspect=30)
    bar.set_label("change of the call's probability\nwhen the channel is blanked (points)")
    bar.outline.set_visible(False)


def _write(axes: Axes, values: np.ndarray, most: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 * most else "#333333"
            axes.text(column, row, f"{value:.0f}".replace("-0", "0").replace("-", "−"), ha="center", va="center", color=colour, fontsize=TEXT - 1)  # fmt: skip
