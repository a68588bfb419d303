"""Training curves: loss, learning rate and signs of collapse."""

import textwrap
from collections import defaultdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from coda.columns import source_name, sources_in_order
from coda.errors import UserError
from coda.figures.style import FAINT, INK, MM, Drawing, look, new_figure, style
from coda.methods import method_name

PANELS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "knn_accuracy": "kNN accuracy",
    "validation_accuracy": "validation accuracy",
    "teacher_entropy": "entropy of the teacher (nats)",
    "feature_deviation": "spread of the features",
    "learning_rate": "learning rate",
    "samples_per_second": "samples per second",
}
# What DINO logs, and no classifier.
SIGNS = {"teacher_entropy", "feature_deviation"}
ON = " on "  # between a training and its target, in the name of a run
COLLAPSE = {"color": FAINT, "linewidth": 0.8, "linestyle": (0, (1, 1.5))}

Tables = dict[str, pd.DataFrame]


def training_curves(runs: Tables, prototypes: int | None = None) -> Drawing:
    """Draw every quantity the runs have logged over the epochs.

    Foundations are above, one column a training (``coda on source_3`` is a line in the column of CODA) and one row a
    quantity; classifiers are below, one panel a quantity.

    Parameters
    ----------
    runs
        Name of a run to its table: epoch (or step) and any of the columns of `PANELS`. Absent columns leave out
        a panel or a line. Steps are averaged by epoch.
    prototypes
        If given, a line in the panels of the foundations' loss marks ln(prototypes), the loss of a collapsed run.
    """
    tables = {name: _by_epoch(table) for name, table in runs.items()}
    if not any(map(_logged, tables.values())):
        raise UserError(
            f"The training logs hold none of the columns {', '.join(PANELS)}; there is nothing to draw."
        )
    foundations = {name: table for name, table in tables.items() if SIGNS & {*_logged(table)}}
    classifiers = {name: tables[name] for name in tables if name not in foundations}
    parts = [
        (draw, own, height)
        for draw, own, height in (
            (_foundations, foundations, 24 + 22 * len(_quantities(foundations))),
            (_classifiers, classifiers, 50),
        )
        if own
    ]
    heights = [height for _, _, height in parts]
    with style():
        figure = new_figure(sum(heights) * MM)
        places = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
        for place, (draw, own, _) in zip(places, parts, strict=True):
            draw(place, own, prototypes)
    table = pd.concat(
        [table.reset_index().assign(run=name) for name, table in tables.items()], ignore_index=True
    )
    return Drawing(figure, table)


def _foundations(figure: SubFigure, tables: Tables, prototypes: int | None) -> None:
    columns: dict[str, Tables] = defaultdict(dict)
    for name, table in tables.items():
        training, _, target = name.partition(ON)
        columns[training][target] = table
    targets = sources_in_order({target for own in columns.values() for target in own} - {""})
    looks = {target: look(number) for number, target in enumerate(targets)} | {"": (INK, "")}
    rows = _quantities(tables)
    grid = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
    for places, (training, own) in zip(grid.T, columns.items(), strict=True):
        for axes, quantity in zip(places, rows, strict=True):
            for target, table in own.items():
                _line(axes, table, quantity, *looks[target])
            if not axes.lines:
                axes.set_axis_off()
            if quantity == "loss" and prototypes:
                axes.axhline(np.log(prototypes), **COLLAPSE)
        places[0].set_title(textwrap.fill(method_name(training), 15))
        places[-1].set_xlabel(_time(own))
    for axes, quantity in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(textwrap.fill(PANELS[quantity], 16))
    handles = [
        Line2D([], [], color=looks[target][0], marker=looks[target][1], markersize=3,
               label=source_name(target))
        for target in targets
    ]  # fmt: skip
    if prototypes:
        handles.append(Line2D([], [], label="ln(prototypes): collapse", **COLLAPSE))
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=6)


def _classifiers(figure: SubFigure, tables: Tables, _: int | None) -> None:
    quantities = _quantities(tables)
    grid = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(grid, quantities, strict=True):
        for number, table in enumerate(tables.values()):
            _line(axes, table, quantity, *look(number))
        axes.set_title(PANELS[quantity])
        axes.set_xlabel(_time(tables))
    handles = [
        Line2D([], [], color=look(number)[0], marker=look(number)[1], markersize=3, label=name)
        for number, name in enumerate(tables)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=6)


def _line(axes: Axes, table: pd.DataFrame, quantity: str, colour: str, marker: str) -> None:
    if quantity in _logged(table):
        known = table[quantity].dropna()
        every = max(1, len(known) // 5)
        if len(known) < 3:
            marker = marker or "o"
        looks = {"color": colour, "marker": marker, "markersize": 3, "markevery": every}
        axes.plot(known.index, known, **looks)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.grid(axis="y")


def _logged(table: pd.DataFrame) -> list[str]:
    """The quantities that a run has logged."""
    return [name for name in PANELS if name in table and table[name].notna().any()]


def _quantities(tables: Tables) -> list[str]:
    """All that any of the runs has logged."""
    return [name for name in PANELS if any(name in _logged(table) for table in tables.values())]


def _time(tables: Tables) -> str:
    return "epoch" if all(table.index.name == "epoch" for table in tables.values()) else "step"


def _by_epoch(table: pd.DataFrame) -> pd.DataFrame:
    key = "epoch" if "epoch" in table else "step"
    if key not in table:
        raise UserError("A training log has neither a column epoch nor a column step; train again.")
    columns = [name for name in PANELS if name in table]
    return table.groupby(key)[columns].mean()
