"""Figures of the experiments: more plates, plate after plate, and pairs of bars for what was seen and what was not."""

from collections.abc import Callable, Iterator
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from coda.columns import ADAPTED, HELD_OUT, VALIDATION, source_name, sources_in_order
from coda.errors import UserError
from coda.evaluation.estimates import ALL
from coda.evaluation.experiment_parts import BEFORE
from coda.figures.style import (
    INK,
    MM,
    PAGE,
    PALETTE,
    TEXT,
    Drawing,
    look,
    new_figure,
    percent,
    style,
)
from coda.methods import in_order, method_name

PLATES = {
    ADAPTED: "Adapted plates",
    "unseen": "Other plates of the target",
    HELD_OUT: "Held-out plate",
}
ONLINE = {
    "new": "The new plate",
    HELD_OUT: "Held-out plate",
    "home": "Training source (what was forgotten)",
}
BARS = {
    VALIDATION: "Training source, held-out plate",
    ADAPTED: "Target, adapted plates",
    HELD_OUT: "Target, held-out plate",
}
ACROSS = 28  # characters of a title in one line
COLUMNS = ["experiment", "step", "train_source", "target_source", "method", "split", "level"]
COLUMNS += ["value", "low", "high", "n", "seeds", "pairs", "reason"]


class Look(NamedTuple):
    """How a target is drawn: colour, marker, and how far beside its step, so that many do not hide each other."""

    colour: str
    marker: str
    beside: float


def plates_curve(scores: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw accuracy over the number of plates adapted to, with 95 % bands; dashed without adaptation.

    Parameters
    ----------
    scores
        `coda.evaluation.experiment_scores.score_experiments`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    table = _accuracy(scores, ["plates"], level)

    def panel(axes: Axes, rows: pd.DataFrame, target: Look) -> None:
        _band(axes, rows[rows["method"] == "coda"], target)
        _unadapted(axes, rows[rows["method"] == "unadapted"], target)
        axes.set_xscale("log", base=2)

    drawing = _panels(table, PLATES, level, panel, "plates adapted to")
    for axes in drawing.axes:
        steps = sorted(table["step"].dropna().unique())
        axes.xaxis.set_major_locator(FixedLocator([float(step) for step in steps]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:.0f}")
    lines = {"CODA": {"linestyle": "-"}, "unadapted": {"linestyle": "--"}}
    _legend(drawing, table, lines)
    return Drawing(drawing, table)


def online_curve(scores: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw accuracy plate after plate with 95 % intervals: on the new plate before and after, held out, and at home.

    Parameters
    ----------
    scores, level
        As in `plates_curve`.
    """
    table = _accuracy(scores, ["online"], level)

    def panel(axes: Axes, rows: pd.DataFrame, target: Look) -> None:
        before, after, plain = (
            rows[rows["method"] == name].sort_values("step")
            for name in (BEFORE, "coda", "unadapted")
        )
        if len(before):
            _steps(axes, before, after, target)
        else:
            _band(axes, after, target)
        _unadapted(axes, plain, target)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    drawing = _panels(table, ONLINE, level, panel, "plates so far, in the order of the batches")
    _legend(
        drawing,
        table,
        {
            "before the plate": {"linestyle": "", "marker": "o", "mfc": "white"},
            "after it": {"linestyle": "", "marker": "o"},
            "unadapted": {"linestyle": "--"},
        },
    )
    return Drawing(drawing, table)


def paired_bars(scores: pd.DataFrame, kinds: dict[str, str], level: str = "image") -> Drawing:
    """Draw every method's accuracy as a pair of bars, as mean over pairs of sources.

    Parameters
    ----------
    scores, level
        As in `plates_curve`.
    kinds
        The two experiments that are compared, and what the legend calls them.
    """
    table = _accuracy(scores, list(kinds), level)
    # At home is the pipeline as trained, on the training source.
    shown = table[table["train_source"] == ALL].replace({"method": {"in_domain": "unadapted"}})
    methods = in_order(set(shown["method"]) - {"chance"})
    defined = shown[shown["value"].notna() & (shown["method"] != "chance")]
    compared = defined.groupby("split")["method"].nunique()
    splits = [split for split in BARS if compared.get(split, 0) > 1]
    with style():
        figure = new_figure((22 + 8.5 * len(methods)) * MM)
        grid = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
        places = np.arange(len(methods))
        for axes, split in zip(grid, splits, strict=True):
            for number, (kind, label) in enumerate(kinds.items()):
                part = shown[(shown["split"] == split) & (shown["experiment"] == kind)]
                rows = part.set_index("method").reindex(methods)
                value = rows["value"].to_numpy(float)
                ends = np.abs(rows[["low", "high"]].to_numpy(float).T - value)
                y, colour = places + (number - 0.5) * 0.4, PALETTE[number]
                axes.barh(y, value, 0.36, color=colour, label=label)
                axes.errorbar(
                    value, y, xerr=ends, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5
                )
                for guess in part.loc[part["method"] == "chance", "value"]:
                    axes.axvline(guess, color=colour, linestyle=(0, (1, 1.5)))
            axes.set_title(BARS[split])
            axes.set_xlabel(f"{level}s named right")
            axes.grid(axis="x")
        grid[0].set_yticks(places, [method_name(name) for name in methods])
        grid[0].invert_yaxis()
        grid[0].set_xlim(0, None)
        grid[0].xaxis.set_major_formatter(percent())
        handles, labels = grid[-1].get_legend_handles_labels()
        handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 1.5))))
        figure.legend(
            handles, [*labels, method_name("chance")], loc="outside upper center", ncols=3
        )
    return Drawing(figure, table)


def _accuracy(scores: pd.DataFrame, experiments: list[str], level: str) -> pd.DataFrame:
    rows = scores[
        scores["experiment"].isin(experiments)
        & (scores["metric"] == "accuracy")
        & (scores["level"] == level)
    ]
    if rows.empty:
        raise UserError(f"The scores hold no accuracy of {experiments[0]}; check experiments.run.")
    return rows[COLUMNS].reset_index(drop=True)


def _panels(
    table: pd.DataFrame,
    splits: dict[str, str],
    level: str,
    draw: Callable[[Axes, pd.DataFrame, Look], None],
    xlabel: str,
) -> Figure:
    """Draw a row of panels per training source, one a split, with one colour and marker a target."""
    rows = table[(table["train_source"] != ALL) & table["value"].notna()]
    # A target may have no held-out plate.
    splits = {split: title for split, title in splits.items() if (rows["split"] == split).any()}
    rows = rows[rows["split"].isin(splits)]
    sources, looks = sources_in_order(rows["train_source"]), _looks(table)
    with style():
        around = 20 + 4 * (len(looks) // 5)
        row = min(44, (PAGE / MM - around) / len(sources))
        figure = new_figure((around + row * len(sources)) * MM)
        grid = figure.subplots(len(sources), len(splits), sharex=True, sharey=True, squeeze=False)
        for line, source in zip(grid, sources, strict=True):
            for axes, split in zip(line, splits, strict=True):
                part = rows[(rows["train_source"] == source) & (rows["split"] == split)]
                for target in sources_in_order(part["target_source"]):
                    draw(axes, part[part["target_source"] == target], looks[target])
                axes.grid(axis="y")
            line[0].set_ylabel(f"trained on\n{source_name(source)}")
        figure.supylabel(f"{level}s named right", fontsize=TEXT)
        for axes, title in zip(grid[0], splits.values(), strict=True):
            axes.set_title(fill(title, ACROSS))
        grid[-1, len(splits) // 2].set_xlabel(xlabel)
        grid[0, 0].set_ylim(0, None)
        grid[0, 0].yaxis.set_major_formatter(percent())
    return figure


def _looks(table: pd.DataFrame) -> dict[str, Look]:
    """Give every target of an adaptation a look of its own, the same in all panels."""
    adapted = table[(table["train_source"] != ALL) & (table["method"] == "coda")]
    targets = sources_in_order(adapted["target_source"])
    places = np.linspace(-0.3, 0.3, len(targets)) if len(targets) > 1 else [0.0]
    return {
        target: Look(*look(number), place)
        for number, (target, place) in enumerate(zip(targets, places, strict=True))
    }


def _numbers(rows: pd.DataFrame) -> Iterator[np.ndarray]:
    rows = rows.sort_values("step")
    return (rows[name].to_numpy(float) for name in ("step", "value", "low", "high"))


def _band(axes: Axes, rows: pd.DataFrame, target: Look) -> None:
    x, value, low, high = _numbers(rows)
    axes.plot(x, value, marker=target.marker, color=target.colour, markersize=4)
    axes.fill_between(x, low, high, color=target.colour, alpha=0.15, linewidth=0)


def _unadapted(axes: Axes, rows: pd.DataFrame, target: Look) -> None:
    """Dash the accuracy without adaptation; a small marker at the right end tells lines of one colour apart."""
    x, value, _, _ = _numbers(rows)
    looks = {"marker": target.marker, "markersize": 2.5, "markevery": [-1]}
    axes.plot(x, value, "--", color=target.colour, linewidth=0.8, **looks)


def _steps(axes: Axes, before: pd.DataFrame, after: pd.DataFrame, target: Look) -> None:
    """Lead from each plate's accuracy before its own adaptation (open) to that after it (filled)."""
    for rows, shift, face in ((before, -0.04, "white"), (after, 0.04, target.colour)):
        x, value, low, high = _numbers(rows)
        axes.errorbar(
            x + target.beside + shift,
            value,
            np.abs([low - value, high - value]),
            color=target.colour,
            marker=target.marker,
            markersize=4,
            mfc=face,
            linestyle="",
            elinewidth=0.6,
        )


def _legend(figure: Figure, table: pd.DataFrame, lines: dict[str, dict]) -> None:
    """Explain targets by colour and marker, then the lines in black."""
    with style():
        handles = [
            Line2D(
                [],
                [],
                color=each.colour,
                marker=each.marker,
                label=f"target {source_name(target)}",
                markersize=4,
            )
            for target, each in _looks(table).items()
        ]
        handles += [
            Line2D([], [], color=INK, markersize=4, label=name, **look)
            for name, look in lines.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=5)
