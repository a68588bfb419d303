"""Confusion matrices before and after adaptation."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coda.errors import UserError
from coda.evaluation.units import classes_of, units
from coda.figures.style import MM, SEQUENTIAL, TEXT, Drawing, new_figure, percent, shortened, style
from coda.methods import method_name

ACROSS = 34  # characters of a title in one line
FEW = 16  # most classes with names below the columns and numbers in the cells


def confusion_matrices(
    before: pd.DataFrame,
    after: pd.DataFrame,
    level: str = "image",
    method: str = "coda",
) -> Drawing:
    """Draw two confusion matrices with one scale; each row is one true class and adds up to 1.

    Rows carry the names and numbers of the classes; with many classes the columns carry numbers only.

    Parameters
    ----------
    before, after
        Predictions of the same sites.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    method
        Name of the method after.

    Raises
    ------
    UserError
        If the two have different classes or no labelled sites.
    """
    classes, titles = classes_of(before), [method_name(name) for name in ("unadapted", method)]
    if classes_of(after) != classes:
        raise UserError(
            "The predictions before and after adaptation have different classes; predict both again."
        )
    counts = [_counts(predictions, classes, level) for predictions in (before, after)]
    if not counts[0].sum() or not counts[1].sum():
        raise UserError(
            "There are no labelled sites to draw a confusion matrix of; check the labels table."
        )
    truth = [matrix.sum(axis=1, keepdims=True) for matrix in counts]
    shares = [matrix / np.maximum(total, 1) for matrix, total in zip(counts, truth, strict=True)]
    few = len(classes) <= FEW
    with style():
        figure = new_figure(((42 + 7.5 * len(classes)) if few else (26 + 2.9 * len(classes))) * MM)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, share, title in zip(panels, shares, titles, strict=True):
            image = axes.imshow(
                share, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
            )
            right = 100 * np.mean(np.diag(share))
            axes.set_title(fill(f"{title}: {right:.0f} % right, mean of classes", ACROSS))
            axes.set_xlabel("predicted class")
            _label(axes, classes, few)
            if few:
                _numbers(axes, share)
        panels[0].set_ylabel("true class")
        _bar(figure, image, panels, level, gap=4 * MM / figure.get_size_inches()[1])
    return Drawing(figure, _long(classes, titles, counts, shares))


def _counts(predictions: pd.DataFrame, classes: list[str], level: str) -> np.ndarray:
    counted = units(predictions, classes, level)
    cell = counted.labels * len(classes) + counted.probabilities.argmax(axis=1)
    return np.bincount(cell, minlength=len(classes) ** 2).reshape(len(classes), -1)


def _label(axes: Axes, classes: list[str], few: bool) -> None:
    names = [shortened(name) for name in classes]
    ticks = np.arange(len(classes))
    if few:
        axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, names)
    else:
        axes.set_xticks(ticks[4::5], ticks[4::5] + 1)
        axes.set_yticks(ticks, [f"{name}  {index + 1}" for index, name in enumerate(names)])
    axes.set_xticks(ticks[:-1] + 0.5, minor=True)
    axes.set_yticks(ticks[:-1] + 0.5, minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.3)
    axes.tick_params(which="minor", length=0)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def _numbers(axes: Axes, share: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.005:
            colour = "white" if value > 0.55 else "#333333"
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=TEXT,
            )


def _bar(figure: Figure, image, panels: np.ndarray, level: str, gap: float) -> None:
    bar = figure.colorbar(
        image, ax=list(panels), location="top", shrink=0.3, aspect=30, pad=gap, format=percent()
    )
    bar.set_label(f"share of the {level}s of the true class")
    bar.outline.set_visible(False)


def _long(
    classes: list[str], titles: list[str], counts: list[np.ndarray], shares: list[np.ndarray]
) -> pd.DataFrame:
    frames = []
    for title, count, share in zip(titles, counts, shares, strict=True):
        index = pd.MultiIndex.from_product(
            [[title], classes, classes], names=["panel", "true_class", "predicted_class"]
        )
        frames.append(
            pd.DataFrame(
                {"count": count.ravel(), "share": share.ravel()}, index=index
            ).reset_index()
        )
    return pd.concat(frames, ignore_index=True)
