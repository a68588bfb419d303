"""Accuracy before and after adaptation, one line a pair of sources."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from coda.columns import SPLIT_NAMES, TARGET_SPLITS, source_name, sources_in_order
from coda.errors import UserError
from coda.figures.accuracy import accuracies
from coda.figures.style import (
    FAINT,
    INK,
    MM,
    PAGE,
    PALETTE,
    WIDTH,
    Drawing,
    new_figure,
    percent,
    style,
)
from coda.methods import method_name

ACROSS = 16  # characters of a method's name in one line


def slope_chart(summary: pd.DataFrame, level: str = "image", method: str = "coda") -> Drawing:
    """Draw accuracy before and after adaptation with 95 % intervals: one row a training source, one column a split.

    More training sources than fit below each other stand side by side in twos. Each line is a target, named at its
    right end; the horizontal line is at home.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    method
        Name of the method after.
    """
    table = accuracies(summary, level)
    methods = ["unadapted", method]
    table = table[table["method"].isin([*methods, "in_domain"])].reset_index(drop=True)
    pairs = table[table["split"].isin(TARGET_SPLITS)]
    if set(pairs["method"]) != set(methods):
        raise UserError(
            f"The slope chart needs the methods unadapted and {method}; add them to methods."
        )
    trained = sources_in_order(pairs["train_source"])
    most = pairs.groupby("train_source")["target_source"].nunique().max()
    with style():
        height = max(44, 8 + 4 * most)
        across = 1 if 14 + height * len(trained) <= PAGE / MM else 2
        rows = -(-len(trained) // across)
        height = min(height, (PAGE / MM - 14) / rows) if across > 1 else height
        figure = new_figure((14 + height * rows) * MM, width=150 * MM if across == 1 else WIDTH)
        grid = figure.subplots(rows, 2 * across, sharex=True, sharey=True, squeeze=False)
        places = grid.reshape(-1, 2)
        top = np.nanmax(table[["value", "high"]].to_numpy(float))
        for row, source in zip(places, trained, strict=False):
            home = table[(table["train_source"] == source) & (table["method"] == "in_domain")]
            for axes, split in zip(row, TARGET_SPLITS, strict=True):
                mine = (pairs["train_source"] == source) & (pairs["split"] == split)
                axes.set_ylim(0, min(1.02, 1.08 * top))
                _lines(axes, pairs[mine], methods)
                if len(home):
                    axes.axhline(home["value"].item(), color=INK, linewidth=0.8)
                    axes.text(
                        0.5,
                        home["value"].item(),
                        method_name("in_domain").lower(),
                        ha="center",
                        va="center",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                    )
            row[0].set_ylabel(f"trained on {source_name(source)}\n{level}s named right")
        for axes, split in zip(grid[0], TARGET_SPLITS * across, strict=True):
            axes.set_title(SPLIT_NAMES[split].capitalize())
        for axes in places[len(trained) :].ravel():
            axes.set_visible(False)
        # The lowest panel of each column names the methods.
        for axes in places[len(trained) - across : len(trained)].ravel():
            axes.tick_params(axis="x", labelbottom=True)
        grid[0, 0].yaxis.set_major_formatter(percent())
        grid[0, 0].set_xticks((0, 1), [fill(method_name(method), ACROSS) for method in methods])
        grid[0, 0].set_xlim(-0.2, 1.5 if across == 1 else 1.9)  # room for the names
    return Drawing(figure, table)


def _lines(axes: Axes, panel: pd.DataFrame, methods: list[str]) -> None:
    targets = sources_in_order(panel["target_source"])
    ends = []
    for index, target in enumerate(targets):
        rows = panel[panel["target_source"] == target].set_index("method").reindex(methods)
        value, low, high = rows[["value", "low", "high"]].to_numpy(float).T
        colour = PALETTE[index % len(PALETTE)]
        x = np.array([0, 1]) + 0.02 * (index - (len(targets) - 1) / 2)
        axes.errorbar(
            x,
            value,
            np.abs([low - value, high - value]),
            color=colour,
            marker="o",
            markersize=3,
            elinewidth=0.7,
        )
        ends.append((x[1], value[1]))
    height = 0.085 * np.ptp(axes.get_ylim())
    right, heights = np.reshape(ends, (-1, 2)).T
    names = apart(heights, height)
    if len(names) and not np.isnan(names).all():
        names += max(0.0, axes.get_ylim()[0] + height / 2 - np.nanmin(names))
    for index, place in enumerate(names):
        if not np.isnan(place):
            beside = right.max() + 0.12
            axes.plot(
                (right[index], beside),
                (heights[index], place),
                color=FAINT,
                linewidth=0.4,
                zorder=1,
            )
            axes.text(
                beside,
                place,
                source_name(targets[index]),
                color=PALETTE[index % len(PALETTE)],
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


def apart(places: np.ndarray, height: float) -> np.ndarray:
    """Move labels so that none is nearer than `height` to the next, keeping their order and their middle."""
    moved, order = places.astype(float).copy(), np.argsort(places, kind="stable")
    order = order[~np.isnan(places[order])]
    for _ in range(200):
        gaps = np.diff(moved[order])
        close = np.flatnonzero(gaps < height - 1e-9)
        if not len(close):
            break
        for index in close:
            push = (height - (moved[order[index + 1]] - moved[order[index]])) / 2
            if push > 0:
                moved[order[index]] -= push
                moved[order[index + 1]] += push
    return moved
