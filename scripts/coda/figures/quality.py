"""Quality of one plate in pictures: plate maps, a montage of crops, the illumination functions."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coda.columns import PLATE_KEYS, source_name
from coda.crops.illumination import Illumination
from coda.crops.quality import CHANNEL_MEASURES
from coda.crops.store import CropStore
from coda.figures.style import (
    EMPTY,
    MM,
    PALETTE,
    SEQUENTIAL,
    WIDTH,
    Drawing,
    new_figure,
    scale_bar,
    style,
)
from coda.wells import plate_format, row_letters, well_place

MAP = matplotlib.colormaps[SEQUENTIAL].with_extremes(bad=EMPTY)
UNITS = {
    "Focus": "slope",
    "Saturation": "share",
    "Background": "grey values",
    "Contrast": "ratio",
}
CORRECTIONS = {
    "auto": "Illumination functions of DeepProfiler, applied to plates with enough sites",
    "deepprofiler": "Illumination functions of DeepProfiler",
    "gallery": "Illumination functions of the gallery",
    "none": "Illumination functions of DeepProfiler, not applied",
}


def plot_plate_maps(quality: pd.DataFrame, channels: Sequence[str]) -> Drawing:
    """Draw a plate map of each measure (mean over a well's sites), of flagged and of lost sites.

    Parameters
    ----------
    quality
        The table of `coda.crops.quality.inspect_plate`.
    channels
        Channels to show, one column each.

    Returns
    -------
    Drawing
        The table has one row a well, with the values drawn.
    """
    table = quality.assign(
        Lost=(quality["status"] != "ok").astype(float),
        Flagged=((quality["status"] == "ok") & ~quality["Quality_ok"]).astype(float),
    )
    measured = [
        f"Quality_{measure}_{channel}" for measure in CHANNEL_MEASURES for channel in channels
    ]
    whole = {
        "Quality_Cells": "Nuclei",
        "Quality_Foreground": "Share covered",
        "Flagged": "Share flagged",
        "Lost": "Share lost",
    }
    wells = table.groupby("Metadata_Well")[[*measured, *whole]].mean()
    rows, columns = len(CHANNEL_MEASURES) + 1, max(len(channels), len(whole))
    with style():
        figure = new_figure(rows * WIDTH / columns * 0.75 + 10 * MM)
        axes = figure.subplots(rows, columns, squeeze=False)
        for number, name in enumerate(measured):
            row, column = divmod(number, len(channels))
            _draw_map(figure, axes[row, column], plate_grid(wells[name]))
            if column == 0:
                axes[row, 0].set_ylabel(
                    f"{CHANNEL_MEASURES[row]}\n({UNITS[CHANNEL_MEASURES[row]]})"
                )
        for axis, channel in zip(axes[0], channels, strict=False):
            axis.set_title(channel)
        for axis, (name, title) in zip(axes[-1], whole.items(), strict=False):
            _draw_map(figure, axis, plate_grid(wells[name]))
            axis.set_title(title)
        for axis in axes.flat:
            if not axis.has_data():
                axis.remove()
        source, plate = table[PLATE_KEYS].iloc[0]
        figure.suptitle(f"{source_name(source)}, plate {plate}")
    return Drawing(figure, wells.reset_index())


def plate_grid(wells: pd.Series) -> np.ndarray:
    """Arrange values of wells as rows by columns of the plate; NaN where there is no well."""
    places = [well_place(well) for well in wells.index]
    rows, columns = zip(*places, strict=True)
    shape = plate_format(max(rows) + 1, max(columns) + 1)
    grid = np.full(shape, np.nan)
    for place, value in zip(places, wells, strict=True):
        grid[place] = value
    return grid


def _draw_map(figure: Figure, axis: Axes, grid: np.ndarray) -> None:
    height, width = grid.shape
    known = grid[np.isfinite(grid)]
    lowest, highest = (known.min(), known.max()) if known.size else (0, 1)
    # Where all wells are alike, the scale has that one value and its lightest colour.
    image = axis.pcolormesh(grid, cmap=MAP, vmin=lowest, vmax=max(highest, lowest + 1e-9))
    axis.set(aspect="equal", ylim=(height, 0), facecolor=EMPTY)
    axis.set_xticks([0.5, width - 0.5], [1, width])
    axis.set_yticks([0.5, height - 0.5], ["A", row_letters(height - 1)])
    axis.tick_params(length=0, pad=1.5, labelsize=6)
    bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.8, aspect=25, pad=0.02)
    ticks = sorted({lowest, highest})
    bar.set_ticks(ticks, labels=[f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2g}" for x in ticks])
    bar.ax.tick_params(labelsize=6, length=0)
    for label, side in zip(bar.ax.get_xticklabels(), ("left", "right"), strict=False):
        label.set_ha(side)  # towards each other: beside the bar are those of the next map
    bar.outline.set_visible(False)


def plot_montage(store: CropStore, number: int = 6, seed: int = 0) -> Drawing:
    """Show a crop of the worst sites of a plate above random ones, one column a site, one row a channel.

    Flagged sites come first, those with the most flags ahead; then the least focused channel
    decides. Random sites are drawn from those without a flag.

    Parameters
    ----------
    store
        Crops of one plate.
    number
        Sites of each kind.
    seed
        Seed of the random choice.

    Returns
    -------
    Drawing
        The table lists the crops shown.
    """
    # Flags and measures are a site's, so one of its crops stands for all.
    table = store.table.drop_duplicates(["Metadata_Well", "Metadata_Site"])
    focus = table[[f"Quality_Focus_{channel}" for channel in store.channels]]
    lowest = ((focus - focus.median()) / focus.std().replace(0, np.nan)).min(axis=1)
    flags = table["Quality_Flags"].map(lambda text: len(text.split("; ")) if text else 0)
    order = pd.DataFrame({"flags": -flags, "focus": lowest}).sort_values(["flags", "focus"])
    good = np.random.default_rng(seed).permutation(table.index[table["Quality_ok"]])
    shown = {"Worst": order.index[:number].tolist(), "Random": good[:number].tolist()}
    with style():
        tile = WIDTH / (number + 0.5)
        figure = new_figure(2 * (len(store.channels) * tile + 14 * MM))
        for part, (title, rows) in zip(figure.subfigures(2, 1), shown.items(), strict=True):
            part.suptitle(f"{title} sites")
            axes = part.subplots(len(store.channels), number, squeeze=False)
            for axis in axes.flat:
                axis.set(xticks=[], yticks=[])
            for column, row in zip(axes.T, rows, strict=False):
                said = table["Quality_Flags"][row].replace("; ", "\n")
                place = f"{table['Metadata_Well'][row]} site {table['Metadata_Site'][row]}"
                column[0].set_title(f"{place}\n{said}".strip(), fontsize=6)
                for axis, crop in zip(column, store.view(row), strict=True):
                    axis.imshow(crop, cmap="gray", vmin=0, vmax=255)
            for axis, channel in zip(axes[:, 0], store.channels, strict=True):
                axis.set_ylabel(channel)
            if rows:
                scale_bar(axes[0, 0], store.um_per_pixel(table["Metadata_Source"].iloc[0]))
    parts = [table.loc[rows].assign(shown=title.lower()) for title, rows in shown.items()]
    return Drawing(figure, pd.concat(parts))


def plot_illumination(
    illumination: Illumination,
    kind: str = "deepprofiler",
    functions: Sequence[np.ndarray] | None = None,
) -> Drawing:
    """Show each channel's illumination function and its profiles through the middle.

    Parameters
    ----------
    illumination
        Statistics of the plate.
    kind
        The correction: deepprofiler, gallery or none.
    functions
        The gallery's functions (H, W), one a channel, which are then shown instead.

    Returns
    -------
    Drawing
        The table has one row a channel: percentiles and mean of the raw grey values, and the
        highest value of the function.
    """
    channels = illumination.channels
    functions = illumination.functions if functions is None else np.stack(functions)
    height, width = illumination.size
    lowest, highest = min(float(functions.min()), 1.0), max(float(functions.max()), 1.01)
    margin = 0.1 * (highest - lowest)
    step = max(1, height // 270)  # a figure shows no more, and its PDF stays small
    with style():
        figure = new_figure(82 * MM)
        axes = figure.subplots(2, len(channels), squeeze=False, height_ratios=[1.2, 1])
        for (top, below), function, channel in zip(axes.T, functions, channels, strict=True):
            image = top.imshow(function[::step, ::step], cmap=MAP, vmin=lowest, vmax=highest)
            top.set(xticks=[], yticks=[], title=channel)
            across = np.linspace(0, 1, width)[::step], function[height // 2, ::step]
            down = np.linspace(0, 1, height)[::step], function[::step, width // 2]
            below.plot(*across, color=PALETTE[0], label="left to right")
            below.plot(*down, color=PALETTE[3], ls="--", label="top to bottom")
            below.set(
                ylim=(lowest - margin, highest + margin), xticks=[0, 1], xlabel="share of the side"
            )
        axes[1, 0].set_ylabel("relative brightness")
        figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        bar = figure.colorbar(image, ax=axes[0].tolist(), shrink=0.9)
        bar.set_label("relative brightness")
        figure.suptitle(CORRECTIONS[kind])
    facts = {name: getattr(illumination, name) for name in ("lower", "upper", "mean")}
    table = pd.DataFrame({"channel": channels, **facts, "highest": functions.max(axis=(1, 2))})
    return Drawing(figure, table)
