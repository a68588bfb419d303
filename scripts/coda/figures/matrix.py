"""Matrix of accuracies from every training source to every target, at home on the diagonal."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from coda.columns import SPLIT_NAMES, TARGET_SPLITS, source_name, sources_in_order
from coda.errors import UserError
from coda.figures.accuracy import accuracies
from coda.figures.style import (
    INK,
    MM,
    PAGE,
    SEQUENTIAL,
    WIDTH,
    Drawing,
    new_figure,
    percent,
    style,
)
from coda.methods import COMPOSED, in_order, method_name

ACROSS = 4
LEGIBLE = 6.0  # mm, the width of a field that holds its number


def matrix_map(summary: pd.DataFrame, level: str = "image") -> Drawing:
    """Draw one panel a method and split: training sources down, targets across, the accuracy in percent in each field.

    Fields on the diagonal are at home, on the source's own held-out plate, and so the same in all panels.
    Where the fields are too small for numbers, there are colours only. With a single training source there is one
    panel a split, with methods down.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`; its means over seeds are shown.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    Drawing
        The table has every method, drawn or not.
    """
    table = accuracies(summary, level).query("method != 'chance'")
    pairs = table[table["split"].isin(TARGET_SPLITS)]
    methods = [name for name in in_order(pairs["method"]) if is_shown(name)]
    if not methods:
        raise UserError(
            "There is no method to draw the matrix of; the config needs a target and the method unadapted."
        )
    trained = sources_in_order(pairs["train_source"])
    sources = sources_in_order([*trained, *pairs["target_source"]])
    shown = table[table["method"].isin([*methods, "in_domain"])]
    if len(trained) == 1:
        figure = _methods_down(shown, level, methods, trained[0], sources)
    else:
        figure = _panels(shown, level, methods, trained, sources)
    return Drawing(figure, table.reset_index(drop=True))


def _methods_down(
    shown: pd.DataFrame, level: str, methods: list[str], trained: str, sources: list[str]
) -> Figure:
    """Draw one panel a split: methods down, the training source and then its targets across."""
    sources = [trained, *(source for source in sources if source != trained)]
    top = shown["value"].max()
    numbers = _field_width(len(TARGET_SPLITS), len(sources)) >= LEGIBLE
    names = [f"{source_name(trained)}, at home", *map(source_name, sources[1:])]
    with style():
        figure = new_figure((24 + 7 * len(methods)) * MM)
        grid = figure.subplots(1, len(TARGET_SPLITS), sharex=True, sharey=True)
        for axes, split in zip(grid, TARGET_SPLITS, strict=True):
            squares = [_square(shown, method, split, [trained], sources) for method in methods]
            image = _fields(axes, np.concatenate(squares), top, numbers)
            axes.set_title(f"{SPLIT_NAMES[split].capitalize()}, {level}s named right in %")
            axes.axvline(0.5, color="white", linewidth=3)
            axes.set_yticks(range(len(methods)), map(method_name, methods))
            axes.set_xticks(range(len(sources)), names, **_turned(numbers))
        _bar(figure, image, grid)
    return figure


def _panels(
    shown: pd.DataFrame, level: str, methods: list[str], trained: list[str], sources: list[str]
) -> Figure:
    """Draw one panel a method and split: training sources down, targets across."""
    across, field, numbers = _layout(len(methods), len(trained), len(sources))
    down = -(-len(methods) // across)
    top = shown["value"].max()
    with style():
        figure = new_figure(_height(down, field * len(trained)) * MM)
        parts = figure.subfigures(len(TARGET_SPLITS), 1)
        for part, split in zip(parts, TARGET_SPLITS, strict=True):
            part.suptitle(
                f"{level.capitalize()}s named right in %, {SPLIT_NAMES[split]} (framed: at home)"
            )
            grid = part.subplots(down, across, sharex=True, sharey=True, squeeze=False)
            for axes, method in zip(grid.ravel(), methods, strict=False):
                values = _square(shown, method, split, trained, sources)
                image = _fields(axes, values, top, numbers)
                _frame_home(axes, trained, sources)
                axes.set_title(method_name(method).replace(", ", ",\n"))
                axes.set_yticks(range(len(trained)), map(source_name, trained))
                axes.set_xticks(range(len(sources)), map(source_name, sources), **_turned(numbers))
            for axes in grid.ravel()[len(methods) :]:
                axes.set_visible(False)
            for axes in grid.ravel()[: len(methods)][-across:]:
                axes.tick_params(labelbottom=True)  # the lowest panel of each column
            for axes in grid[:, 0]:
                axes.set_ylabel("trained on")
            _bar(part, image, grid)
    return figure


def is_shown(method: str) -> bool:
    """Say whether a method has a panel.

    The unadapted pipeline and CODA, harmonised or aligned on DMSO, and harmonised CODA with
    consensus: a page does not hold more.
    """
    made = COMPOSED.get(method)
    if made is None or made.head != "task_model" or made.alignment not in (None, "dmso"):
        return False
    both = made.harmonised and made.alignment is not None
    if made.adaptation == "coda_consensus":
        return made.harmonised and not both
    return made.adaptation == "unadapted" or (made.adaptation == "coda" and not both)


def _layout(methods: int, trained: int, sources: int) -> tuple[int, float, bool]:
    """Choose panels a row, the side of a field in mm, and whether a page holds fields with their numbers."""
    for across in range(min(methods, ACROSS), 0, -1):
        width = _field_width(across, sources)
        side = min(9.0, width)
        if width >= LEGIBLE and _height(-(-methods // across), side * trained) <= PAGE / MM:
            return across, side, True
    across = min(methods, ACROSS)
    return across, min(9.0, _field_width(across, sources)), False


def _field_width(across: int, sources: int) -> float:
    """Width of a field in mm, beside the names, the colour bar and the gaps between panels."""
    return (WIDTH / MM - 32 - 3 * across) / across / sources


def _height(down: int, panel: float) -> float:
    """Height of the figure in mm, for panels of a height: with titles, and names below."""
    return len(TARGET_SPLITS) * (26 + down * (11 + panel))


def _square(
    table: pd.DataFrame, method: str, split: str, trained: list[str], sources: list[str]
) -> np.ndarray:
    away = (table["method"] == method) & (table["split"] == split)
    rows = table[away | (table["method"] == "in_domain")]
    square = rows.pivot(index="train_source", columns="target_source", values="value")
    return square.reindex(index=trained, columns=sources).to_numpy(float)


def _fields(axes: Axes, values: np.ndarray, top: float, numbers: bool) -> AxesImage:
    image = axes.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(values if numbers else np.empty((0, 0))):
        if not np.isnan(value):
            colour = "white" if value > 0.55 * top else INK
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _turned(numbers: bool) -> dict:
    """Say how names below are turned: by less where fields are wide enough for numbers."""
    return (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if numbers else {"rotation": 90}
    )


def _bar(figure: FigureBase, image: AxesImage, grid: np.ndarray) -> None:
    bar = figure.colorbar(image, ax=grid, aspect=30, fraction=0.05, format=percent())
    bar.outline.set_visible(False)


def _frame_home(axes: Axes, trained: list[str], sources: list[str]) -> None:
    for row, source in enumerate(trained):
        corner = sources.index(source) - 0.5, row - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, clip_on=False))
