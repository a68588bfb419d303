"""The matrix of the study: accuracy from every training source to every target, in domain on the diagonal."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from coda.errors import UserError
from coda.figures_accuracy import accuracies
from coda.methods import ALIGNMENTS, METHODS
from coda.names import SPLIT_NAMES, in_order, method_name, source_name, sources_in_order
from coda.style import INK, MM, SEQUENTIAL, TEXT, Drawing, new_figure, style

SPLITS = ("adapted", "held_out")
ACROSS = 4


def matrix_map(summary: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw a panel a method and split: training sources down, targets across, the accuracy in each field.

    Fields on the diagonal are in domain, on the source's own validation plate, and so the same in all panels.

    Parameters
    ----------
    summary
        `coda.comparison.Evaluation.summary`; its means over seeds are shown.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    Drawing
        The table has every method, drawn or not.
    """
    table = accuracies(summary, level).query("method != 'chance'")
    pairs = table[table["split"].isin(SPLITS)]
    methods = [name for name in in_order(pairs["method"]) if is_shown(name)]
    if not methods:
        raise UserError(
            "There is no method to draw the matrix of; the config needs a target and the method unadapted."
        )
    trained = sources_in_order(pairs["train_source"])
    sources = sources_in_order([*trained, *pairs["target_source"]])
    across = min(len(methods), ACROSS)
    down = -(-len(methods) // across)
    field = min(9.0, (150 / across - 10) / len(sources))
    with style():
        figure = new_figure((24 + len(SPLITS) * down * (16 + max(field, 6) * len(trained))) * MM)
        parts = figure.subfigures(len(SPLITS), 1)
        for part, split in zip(parts, SPLITS, strict=True):
            part.suptitle(f"Accuracy per {level}, {SPLIT_NAMES[split]} (framed: in domain)")
            grid = part.subplots(down, across, sharex=True, sharey=True, squeeze=False)
            for axes, method in zip(grid.ravel(), methods, strict=False):
                _fields(axes, _square(table, method, split, trained, sources))
                _frame_home(axes, trained, sources)
                axes.set_title(method_name(method))
                axes.set_yticks(range(len(trained)), map(source_name, trained))
                axes.set_xticks(
                    range(len(sources)),
                    map(source_name, sources),
                    rotation=45,
                    ha="right",
                    rotation_mode="anchor",
                )
            for axes in grid.ravel()[len(methods) :]:
                axes.set_visible(False)
            for axes in grid[:, 0]:
                axes.set_ylabel("trained on")
    return Drawing(figure, table.reset_index(drop=True))


def is_shown(method: str) -> bool:
    """Methods of the figure: before adaptation, CODA, and both aligned; a panel each for all would tell less."""
    made = METHODS.get(method)
    return (
        made is not None
        and made.kind == "network"
        and made.base in ("unadapted", "coda")
        and (made.treatment is None or made.treatment in ALIGNMENTS)
    )


def _square(
    table: pd.DataFrame, method: str, split: str, trained: list[str], sources: list[str]
) -> np.ndarray:
    away = (table["method"] == method) & (table["split"] == split)
    rows = table[away | (table["method"] == "in_domain")]
    square = rows.pivot(index="train_source", columns="target_source", values="value")
    return square.reindex(index=trained, columns=sources).to_numpy(float)


def _fields(axes: Axes, values: np.ndarray) -> None:
    axes.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value > 0.55 else INK
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=TEXT
            )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _frame_home(axes: Axes, trained: list[str], sources: list[str]) -> None:
    for row, source in enumerate(trained):
        corner = sources.index(source) - 0.5, row - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, clip_on=False))
