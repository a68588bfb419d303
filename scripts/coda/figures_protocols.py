"""Figures of the protocols: more plates, plate after plate, and pairs of bars for what was seen and what was not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from coda.errors import UserError
from coda.estimates import ALL
from coda.names import in_order, method_name, source_name, sources_in_order
from coda.protocol_parts import BEFORE
from coda.style import INK, MARKERS, MM, PALETTE, Drawing, new_figure, style

PLATES = {
    "adapted": "Plates adapted to",
    "unseen": "Other plates of the target",
    "held_out": "Plate kept out",
}
ONLINE = {
    "new": "The new plate",
    "held_out": "Plate kept out",
    "home": "Training source (what was forgotten)",
}
BARS = {
    "validation": "Training source, validation plate",
    "adapted": "Target, plates adapted to",
    "held_out": "Target, plate kept out",
}
COLUMNS = ["protocol", "step", "train_source", "target_source", "method", "split", "level"]
COLUMNS += ["value", "low", "high", "n", "seeds", "pairs", "reason"]


def plates_curve(scores: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw accuracy over the number of plates adapted to, with 95 % bands; dashed without adaptation.

    Parameters
    ----------
    scores
        `coda.protocol_scores.score_protocols`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    table = _accuracy(scores, ["plates"], level)

    def panel(axes: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
        _band(axes, rows[rows["method"] == "coda"], colour, marker)
        _band(axes, rows[rows["method"] == "unadapted"], colour, linestyle="--")
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
    """Draw accuracy plate after plate: on the new plate before and after, on the one kept out, and at home.

    Parameters
    ----------
    scores, level
        As in `plates_curve`.
    """
    table = _accuracy(scores, ["online"], level)

    def panel(axes: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
        before, after, plain = (
            rows[rows["method"] == name].set_index("step").sort_index()
            for name in (BEFORE, "coda", "unadapted")
        )
        if len(before):
            ends = after.loc[before.index, "value"]
            axes.vlines(before.index.astype(float), before["value"], ends, colour, linewidth=0.8)
            axes.plot(
                before.index.astype(float), before["value"], marker, color=colour, mfc="white"
            )
            axes.plot(after.index.astype(float), after["value"], marker, color=colour)
        else:
            _band(axes, after.reset_index(), colour, marker)
        axes.plot(plain.index.astype(float), plain["value"], "--", color=colour, linewidth=0.8)
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
        The two protocols that are compared, and what the legend calls them.
    """
    table = _accuracy(scores, list(kinds), level)
    # In domain is the pipeline as trained, on the training source.
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
                part = shown[(shown["split"] == split) & (shown["protocol"] == kind)]
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
            axes.set_xlabel(f"accuracy per {level}")
            axes.grid(axis="x")
        grid[0].set_yticks(places, [method_name(name) for name in methods])
        grid[0].invert_yaxis()
        grid[0].set_xlim(0, None)
        handles, labels = grid[-1].get_legend_handles_labels()
        handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 1.5))))
        figure.legend(
            handles, [*labels, method_name("chance")], loc="outside upper center", ncols=3
        )
    return Drawing(figure, table)


def _accuracy(scores: pd.DataFrame, protocols: list[str], level: str) -> pd.DataFrame:
    rows = scores[
        scores["protocol"].isin(protocols)
        & (scores["metric"] == "accuracy")
        & (scores["level"] == level)
    ]
    if rows.empty:
        raise UserError(f"The scores hold no accuracy of {protocols[0]}; check protocols.run.")
    return rows[COLUMNS].reset_index(drop=True)


def _panels(
    table: pd.DataFrame,
    splits: dict[str, str],
    level: str,
    draw: Callable[[Axes, pd.DataFrame, str, str], None],
    xlabel: str,
) -> Figure:
    """Draw a row of panels per training source, one a split, with one colour and marker a target."""
    rows = table[(table["train_source"] != ALL) & table["value"].notna()]
    # A target may have no plate that is kept out.
    splits = {split: title for split, title in splits.items() if (rows["split"] == split).any()}
    rows = rows[rows["split"].isin(splits)]
    sources, targets = (sources_in_order(rows[f"{end}_source"]) for end in ("train", "target"))
    with style():
        figure = new_figure((22 + 44 * len(sources)) * MM)
        grid = figure.subplots(len(sources), len(splits), sharex=True, sharey=True, squeeze=False)
        for line, source in zip(grid, sources, strict=True):
            for axes, split in zip(line, splits, strict=True):
                part = rows[(rows["train_source"] == source) & (rows["split"] == split)]
                for target in sources_in_order(part["target_source"]):
                    number = targets.index(target)
                    mine = part[part["target_source"] == target]
                    draw(axes, mine, PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)])
                axes.grid(axis="y")
            line[0].set_ylabel(f"trained on {source_name(source)}\naccuracy per {level}")
        for axes, title in zip(grid[0], splits.values(), strict=True):
            axes.set_title(title)
        grid[-1, len(splits) // 2].set_xlabel(xlabel)
        grid[0, 0].set_ylim(0, None)
    return figure


def _band(
    axes: Axes, rows: pd.DataFrame, colour: str, marker: str = "", linestyle: str = "-"
) -> None:
    rows = rows.sort_values("step")
    x, value, low, high = (rows[name].to_numpy(float) for name in ("step", "value", "low", "high"))
    axes.plot(x, value, marker=marker, color=colour, linestyle=linestyle, markersize=4)
    if marker:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _legend(figure: Figure, table: pd.DataFrame, lines: dict[str, dict]) -> None:
    """Explain targets by colour and marker, then the lines in black."""
    with style():
        rows = table[(table["train_source"] != ALL) & (table["method"] == "coda")]
        handles = [
            Line2D(
                [],
                [],
                color=PALETTE[number % len(PALETTE)],
                marker=MARKERS[number % len(MARKERS)],
                label=f"target {source_name(target)}",
                markersize=4,
            )
            for number, target in enumerate(sources_in_order(rows["target_source"]))
        ]
        handles += [
            Line2D([], [], color=INK, markersize=4, label=name, **look)
            for name, look in lines.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6))
