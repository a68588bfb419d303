"""Coverage that prediction sets reach, beside what was asked for."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from coda.columns import ADAPTED, VALIDATION, source_name
from coda.errors import UserError
from coda.evaluation.coverage_table import of_compounds
from coda.figures.accuracy import DOTS, height_of, rows_of_pairs
from coda.figures.style import FAINT, INK, MM, Drawing, method_colour, new_figure, percent, style
from coda.methods import in_order, method_name

HOME = "at home"


def coverage_dots(table: pd.DataFrame) -> Drawing:
    """Draw how often the sets of compounds hold the right mechanism: one panel a pair of sources, a row a method.

    Large dots with 95 % intervals are all compounds of the adapted plates, small ones those of each mechanism; the
    dotted line is what was asked for. The first row is the training source's own held-out plate.

    Parameters
    ----------
    table
        As `coda.predict.coverage_scores.score_coverage` gives it; its means over seeds are drawn.

    Raises
    ------
    UserError
        If no compound on adapted plates has a label.
    """
    means = of_compounds(table)
    pairs = means[means["split"] == ADAPTED]
    if pairs.empty:
        raise UserError("There are no labelled sites to draw coverage of; check the labels table.")
    methods = in_order(pairs["method"])
    lines = rows_of_pairs(pairs)
    with style():
        figure = new_figure(height_of(len(lines), len(methods) + 1) * MM)
        grid = figure.subplots(
            len(lines), max(map(len, lines)), sharex=True, sharey=True, squeeze=False
        )
        for line, places in zip(lines, grid, strict=True):
            for axes, (source, target) in zip(places, line, strict=False):
                home = (means["train_source"] == source) & (means["split"] == VALIDATION)
                away = (pairs["train_source"] == source) & (pairs["target_source"] == target)
                _dots(axes, means[home], [HOME], 0)
                _dots(axes, pairs[away], methods, 1)
                axes.axvline(means["asked"].iloc[0], color=INK, linestyle=DOTS, linewidth=1)
                axes.set_title(f"{source_name(source)} to {source_name(target)}")
                axes.grid(axis="x")
            for axes in places[len(line) :]:
                axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("sets that hold the right mechanism")
        names = [HOME, *(method_name(method) for method in methods)]
        grid[0, 0].set_yticks(range(len(names)), names)
        grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
        grid[0, 0].set_xlim(-0.03, 1.03)
        grid[0, 0].xaxis.set_major_formatter(percent())
        marks = [("all compounds", INK, 4.5), ("those of one mechanism", FAINT, 2.5)]
        handles = [
            Line2D([], [], marker="o", linewidth=0, markersize=size, color=colour, label=words)
            for words, colour, size in marks
        ]
        handles.append(Line2D([], [], color=INK, linestyle=DOTS, linewidth=1, label="asked for"))
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return Drawing(figure, means)


def _dots(axes: Axes, rows: pd.DataFrame, methods: list[str], first: int) -> None:
    """Draw methods below each other; those of one mechanism spread over the height of the row by their order."""
    for place, method in enumerate(methods, first):
        mine = rows if method == HOME else rows[rows["method"] == method]
        colour = INK if method == HOME else method_colour(method)
        each = mine[mine["of"] == "mechanism"]
        heights = place + np.linspace(-0.3, 0.3, len(each))
        axes.plot(each["coverage"], heights, "o", markersize=2.2, color=colour, alpha=0.45)
        whole = mine[mine["of"] == "all"]
        value, low, high = whole[["coverage", "low", "high"]].to_numpy(float).T
        axes.errorbar(
            value,
            np.full(len(whole), place),
            xerr=np.abs([low - value, high - value]),
            fmt="o",
            markersize=4.5,
            color=colour,
            ecolor=INK,
            elinewidth=0.7,
            capsize=1.2,
        )
    axes.tick_params(axis="y", length=0)
