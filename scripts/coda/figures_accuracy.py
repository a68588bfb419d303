"""The paper's bars: accuracy of every method for every pair of sources."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from coda.errors import UserError
from coda.estimates import ALL
from coda.names import SPLIT_NAMES, in_order, method_name, source_name, sources_in_order
from coda.style import FAINT, INK, METHOD_COLOURS, MM, Drawing, new_figure, style

SPLITS = ("adapted", "held_out")


def accuracy_bars(summary: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw accuracy with 95 % intervals: a row per training source, adapted and held-out plates side by side.

    The band is the accuracy in domain, the dotted line the best constant guess.

    Parameters
    ----------
    summary
        `coda.comparison.Evaluation.summary`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    table = summary[
        (summary["metric"] == "accuracy")
        & (summary["level"] == level)
        & (summary["train_source"] != ALL)
    ]
    pairs = table[table["split"].isin(SPLITS)]
    if pairs.empty:
        raise UserError(
            "There is no pair of sources to draw; the config needs a target besides the training source."
        )
    sources = sources_in_order(pairs["train_source"])
    methods = [name for name in in_order(pairs["method"]) if name != "chance"]
    with style():
        figure = new_figure((20 + 46 * len(sources)) * MM)
        grid = figure.subplots(len(sources), 2, sharey=True, squeeze=False)
        for row, source in zip(grid, sources, strict=True):
            for axes, split in zip(row, SPLITS, strict=True):
                panel = pairs[(pairs["train_source"] == source) & (pairs["split"] == split)]
                _bars(axes, panel, methods)
                _in_domain(
                    axes,
                    table[(table["train_source"] == source) & (table["method"] == "in_domain")],
                )
            row[0].set_ylabel(f"trained on {source_name(source)}\naccuracy per {level}")
        for axes, split in zip(grid[0], SPLITS, strict=True):
            axes.set_title(SPLIT_NAMES[split].capitalize())
        for axes in grid[-1]:
            axes.set_xlabel("predicted source")
        shown = table.loc[table["method"] != "chance", ["value", "high"]].to_numpy(float)
        grid[0, 0].set_ylim(0, min(1.02, 1.05 * np.nanmax(shown)))  # the axes share it
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5))
    wanted = [
        "train_source",
        "target_source",
        "method",
        "split",
        "level",
        "value",
        "low",
        "high",
        "n",
        "seeds",
        "reason",
    ]
    return Drawing(figure, table[wanted].reset_index(drop=True))


def _bars(axes: Axes, panel: pd.DataFrame, methods: list[str]) -> None:
    targets = sources_in_order(panel["target_source"])
    width = 0.84 / len(methods)
    for index, method in enumerate(methods):
        rows = panel[panel["method"] == method].set_index("target_source").reindex(targets)
        x = np.arange(len(targets)) + (index - (len(methods) - 1) / 2) * width
        value = rows["value"].to_numpy(float)
        ends = np.abs(rows[["low", "high"]].to_numpy(float).T - value)
        axes.bar(
            x,
            value,
            width * 0.9,
            color=METHOD_COLOURS.get(method, FAINT),
            label=method_name(method),
        )
        axes.errorbar(
            x, value, ends, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5, capthick=0.7
        )
    chance = panel[panel["method"] == "chance"].set_index("target_source").reindex(targets)["value"]
    edges = np.arange(len(targets))
    axes.hlines(
        chance,
        edges - 0.46,
        edges + 0.46,
        colors=INK,
        linestyles=(0, (1, 1.5)),
        linewidth=1,
        label=method_name("chance"),
    )
    axes.set_xticks(edges, [source_name(target) for target in targets])
    axes.set_xlim(-0.55, len(targets) - 0.45)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


def _in_domain(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    value, low, high = rows.iloc[0][["value", "low", "high"]].astype(float)
    axes.axhspan(low, high, color=INK, alpha=0.08, linewidth=0)
    axes.axhline(
        value, color=INK, linewidth=1, label=f"{method_name('in_domain')} (own validation plate)"
    )
