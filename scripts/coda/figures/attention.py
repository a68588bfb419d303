"""Where the networks look: attention over crops of both sources, and what blanking a channel does to their calls."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from coda.columns import CHANGE, SITE_KEYS, source_name
from coda.crops.composite import composites, stretched
from coda.crops.store import CropStore
from coda.figures.style import MM, TEXT, Drawing, new_figure, scale_bar, style
from coda.methods import method_name

LINE = 14  # characters of a mechanism, or above a strip, in one line
NARROW = 10  # characters above a map in one line
ROW = 15.5 * MM
CHANGES = "RdBu_r"
LEAST_WIDE = 3  # channels: strips of fewer are no narrower
MOST_NUMBERED = 5  # channels: strips of more are no wider and have no numbers
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
        The table has a row a crop and method, with the call and the changes; shown: whether the crop is drawn.
    """
    sources = [store.table["Metadata_Source"].iloc[0] for store in (home, target)]
    at_home = explanations["Metadata_Source"] == sources[0]
    methods = explanations["Method"].unique()
    before, after = (explanations["Method"] == method for method in methods)
    panels = [explanations[rows] for rows in (at_home, before & ~at_home, after)]
    moas = sorted(explanations["Metadata_moa"].unique())
    # Crops are in one order for all methods, so the first is the same before and after.
    first = [panel.drop_duplicates("Metadata_moa").set_index("Metadata_moa") for panel in panels]
    lab, other = map(source_name, sources)
    unadapted, adapted = method_name(methods[0]).lower(), method_name(methods[1])
    pictures = [
        _pictures(store, rows, size) for store, rows in zip((home, target), first[:2], strict=True)
    ]
    maps = [_relative(rows) for rows in first]
    columns = [
        (lab, pictures[0]),
        (fill(f"attention, {unadapted}", NARROW), maps[0]),
        (other, pictures[1]),
        (fill(f"attention, {unadapted}", NARROW), maps[1]),
        (fill(f"attention, {adapted}", NARROW), maps[2]),
    ]
    titles = [f"{lab}, {unadapted}", f"{other}, {unadapted}", f"{other}, {adapted}"]
    titles = [fill(title, LINE) for title in titles]
    with style():
        figure = new_figure(len(moas) * ROW + 32 * MM)
        channels = sum(name.startswith(CHANGE) for name in explanations)
        ratios = [1] * len(columns) + [0.45 * min(max(channels, LEAST_WIDE), MOST_NUMBERED)] * 3
        grid = figure.subplots(len(moas), len(ratios), squeeze=False, width_ratios=ratios)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, moa in zip(grid[:, 0], moas, strict=True):
            axes.set_ylabel(fill(moa, LINE), rotation=0, ha="right", va="center")
        _draw_tiles(figure, grid[:, : len(columns)], columns, moas)
        _draw_changes(figure, grid[:, len(columns) :], titles, panels, moas)
        for axes, store, source in zip(grid[0, [0, 2]], (home, target), sources, strict=True):
            if axes.images:
                scale_bar(axes, store.um_per_pixel(source))
    shown = explanations.index.isin(
        np.concatenate([panel.drop_duplicates("Metadata_moa").index for panel in panels])
    )
    return Drawing(figure, explanations.drop(columns="Attention").assign(shown=shown))


def _pictures(store: CropStore, rows: pd.DataFrame, size: int) -> dict[str, np.ndarray]:
    """Give the middle of a crop of each mechanism in colour."""
    if rows.empty:
        return {}
    places = store.table[SITE_KEYS].reset_index(names="crop").drop_duplicates(SITE_KEYS)
    found = rows.reset_index()[["Metadata_moa", *SITE_KEYS]].merge(places, on=SITE_KEYS, how="left")
    crops = store.gather(found["crop"].to_numpy())
    top, start = ((side - size) // 2 for side in crops.shape[2:])
    crops = crops[:, :, top : top + size, start : start + size]
    return dict(
        zip(found["Metadata_moa"], composites(stretched(crops), store.channels), strict=True)
    )


def _relative(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Give the attention of a crop of each mechanism relative to its mean over the patches, as squares."""
    maps = {}
    for moa, shares in rows["Attention"].items():
        side = round(np.sqrt(len(shares)))
        maps[moa] = np.reshape(shares, (side, side)) / np.mean(shares)
    return maps


def _draw_tiles(
    figure: Figure,
    grid: np.ndarray,
    columns: Sequence[tuple[str, dict[str, np.ndarray]]],
    moas: Sequence[str],
) -> None:
    values = [tile for _, tiles in columns for tile in tiles.values() if tile.ndim == 2]
    most = max(2.0, np.nan_to_num(np.quantile(np.stack(values), 0.99)))
    scale = ScalarMappable(Normalize(0, most), "cividis")
    for places, (title, tiles) in zip(grid.T, columns, strict=True):
        places[0].set_title(title, fontsize=TEXT)
        for axes, moa in zip(places, moas, strict=True):
            axes.set_box_aspect(1)
            if moa in tiles:
                axes.imshow(tiles[moa], norm=scale.norm, cmap=scale.cmap, interpolation="nearest")
    bar = figure.colorbar(scale, ax=grid, location="bottom", shrink=0.6, aspect=30)
    bar.set_label("attention, relative to an even one")
    bar.outline.set_visible(False)


def _draw_changes(
    figure: Figure,
    grid: np.ndarray,
    titles: Sequence[str],
    panels: Sequence[pd.DataFrame],
    moas: Sequence[str],
) -> None:
    means = [
        100 * panel.set_index("Metadata_moa").filter(like=CHANGE).groupby(level=0).mean().reindex(moas)
        for panel in panels
    ]  # fmt: skip
    channels = [name.removeprefix(CHANGE) for name in means[0]]
    most = max(LEAST, np.nanmax(np.abs(np.stack(means))))
    scale = ScalarMappable(Normalize(-most, most), CHANGES)
    for places, title, table in zip(grid.T, titles, means, strict=True):
        places[0].set_title(title, fontsize=TEXT)
        for axes, row in zip(places, table.to_numpy(), strict=True):
            axes.imshow(row[None], norm=scale.norm, cmap=scale.cmap, aspect="auto")
            for edge in range(1, len(channels)):
                axes.axvline(edge - 0.5, color="white", linewidth=1)
            for column, value in enumerate(row):
                if np.isfinite(value) and len(channels) <= MOST_NUMBERED:
                    colour = "white" if abs(value) > 0.6 * most else "#333333"
                    words = f"{value:.0f}".replace("-", "−").replace("−0", "0")
                    axes.text(column, 0, words, ha="center", va="center", color=colour)
        places[-1].set_xticks(range(len(channels)), channels, rotation=90)
        places[-1].tick_params(length=0)
    bar = figure.colorbar(scale, ax=grid, location="bottom", shrink=0.6, aspect=30)
    bar.set_label("change of the call's\nprobability (points)")
    bar.outline.set_visible(False)
