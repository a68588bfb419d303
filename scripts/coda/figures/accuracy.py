"""Bars of accuracy: every method on every pair of sources."""

from collections.abc import Iterable
from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from coda.columns import ADAPTED, HELD_OUT, SPLIT_NAMES, source_name, sources_in_order
from coda.errors import UserError
from coda.evaluation.estimates import ALL
from coda.evaluation.significance import ALPHA, own_tests
from coda.figures.style import (
    INK,
    MM,
    PAGE,
    Drawing,
    method_colour,
    new_figure,
    percent,
    style,
)
from coda.methods import in_order, method_name

STRENGTHS = {ADAPTED: (1.0, "full"), HELD_OUT: (0.45, "pale")}
ACROSS = 4  # panels side by side
NARROWEST = 2.7  # mm a method, the least that its name needs
DOTS = (0, (1, 1.5))
APART = 0.6  # of a method's height, between methods and controls


def accuracy_bars(summary: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw accuracy with 95 % intervals: one panel a pair of sources, two bars a method.

    Line and band are the accuracy at home, the dotted line is the best constant guess. A star marks a method
    whose difference from what it is compared with is significant after correction. Controls stand apart, below the
    methods and without stars.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    table = accuracies(summary, level)
    pairs = table[table["split"].isin(STRENGTHS)]
    if pairs.empty:
        raise UserError(
            "There is no pair of sources to draw; the config needs a target besides the training source."
        )
    methods = methods_then_controls(pairs["method"])
    rows = rows_of_pairs(pairs)
    alone = pairs["train_source"].nunique() == 1
    with style():
        figure = new_figure(height_of(len(rows), len(methods)) * MM)
        grid = figure.subplots(
            len(rows), max(map(len, rows)), sharex=True, sharey=True, squeeze=False
        )
        for line, places in zip(rows, grid, strict=True):
            for axes, (source, target) in zip(places, line, strict=False):
                of_pair = (pairs["train_source"] == source) & (pairs["target_source"] == target)
                _bars(axes, pairs[of_pair], methods)
                _at_home(axes, table[table["train_source"] == source], alone)
                axes.set_title(f"{source_name(source)} to {source_name(target)}")
            for axes in places[len(line) :]:
                axes.set_visible(False)
        if alone:
            for axes, (_, target) in zip(grid.flat, chain(*rows), strict=False):
                axes.set_title(f"tested on {source_name(target)}")
        for axes in grid[-1]:
            axes.set_xlabel(f"{level}s named right")
        shown = table.loc[table["method"] != "chance", ["value", "high"]].to_numpy(float)
        grid[0, 0].set_xlim(0, min(1.04, 1.08 * np.nanmax(shown)))  # the axes share it
        grid[0, 0].xaxis.set_major_formatter(percent())
        handles, labels = grid[0, 0].get_legend_handles_labels()
        if (pairs["p_holm"] < ALPHA).any():
            handles.append(
                Line2D(
                    [],
                    [],
                    color=INK,
                    marker=(5, 2),
                    markersize=3.5,
                    markeredgewidth=0.5,
                    linewidth=0,
                )
            )
            labels.append("differs significantly from before adaptation")
        figure.legend(handles, labels, loc="outside upper center", ncols=2, columnspacing=3)
    return Drawing(figure, table)


def accuracies(summary: pd.DataFrame, level: str) -> pd.DataFrame:
    """Accuracies of every pair and at home, with the test of each method against what it is compared with.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    pandas.DataFrame
        train_source, target_source, method, split, level, value, low, high, n, seeds, reason, p, p_holm.
    """
    keys = ["train_source", "target_source", "method", "split", "level"]
    rows = summary[(summary["level"] == level) & (summary["train_source"] != ALL)]
    tested = own_tests(rows)
    plain = rows.loc[
        rows["metric"] == "accuracy", [*keys, "value", "low", "high", "n", "seeds", "reason"]
    ]
    return plain.merge(tested[[*keys, "p", "p_holm"]], on=keys, how="left")


def methods_then_controls(methods: Iterable[str]) -> list[str]:
    """Sort methods as everywhere, but for controls of the evaluation, which come last."""
    names = [name for name in in_order(methods) if name != "chance"]
    return sorted(names, key=is_control)


def is_control(name: str) -> bool:
    """Whether a row is a control, which nobody would use."""
    return method_name(name).startswith("Control")


def rows_of_pairs(pairs: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Pairs in rows of at most `ACROSS`; each training source starts a new one."""
    rows = []
    for source in sources_in_order(pairs["train_source"]):
        targets = sources_in_order(pairs.loc[pairs["train_source"] == source, "target_source"])
        together = [(source, target) for target in targets]
        rows += [together[start : start + ACROSS] for start in range(0, len(together), ACROSS)]
    return rows


def height_of(rows: int, methods: int) -> float:
    """Height of the figure in mm: that of a page at most, unless names would then overlap."""
    most = ((PAGE / MM - 16) / rows - 13) / methods
    pitch = max(NARROWEST, min(5.2 if methods <= 8 else 3.6, most))
    return 16 + rows * (13 + pitch * methods)


def _bars(axes: Axes, panel: pd.DataFrame, methods: list[str]) -> None:
    apart = np.array([is_control(name) for name in methods])
    places = np.arange(len(methods)) + APART * apart
    colours = [method_colour(method) for method in methods]
    for (split, (strength, words)), offset in zip(STRENGTHS.items(), (-0.21, 0.21), strict=True):
        rows = panel[panel["split"] == split].set_index("method")
        value, low, high, p = (
            rows.reindex(methods)[["value", "low", "high", "p_holm"]].to_numpy(float).T
        )
        ends = np.abs([low - value, high - value])
        axes.barh(places + offset, value, 0.38, color=colours, alpha=strength)
        axes.errorbar(
            value, places + offset, xerr=ends, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.2
        )
        # For the legend: bars have as many colours as methods, so these stand for the two strengths.
        axes.barh(
            0,
            0,
            color=INK,
            alpha=strength,
            label=f"{words} bars: {SPLIT_NAMES[split]}",
        )
        for row in np.flatnonzero((p < ALPHA) & ~apart):
            axes.annotate(
                "*",
                (high[row], places[row] + offset),
                (2.5, -1.2),
                textcoords="offset points",
                va="center",
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            )
    chance = panel.loc[panel["method"] == "chance", "value"]
    if len(chance):
        axes.axvline(
            chance.max(), color=INK, linestyle=DOTS, linewidth=1, label=method_name("chance")
        )
    axes.set_yticks(places, [method_name(method) for method in methods])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _at_home(axes: Axes, rows: pd.DataFrame, alone: bool) -> None:
    rows = rows[rows["method"] == "in_domain"]
    if rows.empty:
        return
    trained = rows["train_source"].iloc[0]
    words = f"a held-out plate of {source_name(trained) if alone else 'the training source'}"
    value, low, high = rows.iloc[0][["value", "low", "high"]].astype(float)
    axes.axvspan(low, high, color=INK, alpha=0.08, linewidth=0)
    axes.axvline(
        value,
        color=INK,
        linewidth=1,
        label=f"{method_name('in_domain')}, {words}",
    )
