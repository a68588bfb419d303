"""Reliability diagrams: how often a prediction is right at each confidence, before and after adaptation."""

import numpy as np
import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, SPLIT_NAMES
from coda.errors import UserError
from coda.evaluation.bootstrap import metric_interval, resampling_weights
from coda.evaluation.metrics import BINS, calibration_error, confidence_bins
from coda.evaluation.units import Units, target_units
from coda.figures.style import FAINT, MM, PALETTE, Drawing, new_figure, percent, style
from coda.methods import method_name

LOOKS = {ADAPTED: (PALETTE[0], "o"), HELD_OUT: (PALETTE[1], "s")}


def reliability(
    before: pd.DataFrame,
    after: pd.DataFrame,
    plates: pd.DataFrame,
    level: str = "image",
    replicates: int = 1000,
    seed: int = 0,
    method: str = "coda",
) -> Drawing:
    """Draw accuracy over confidence, and below it the share of predictions in each bin of confidence.

    Parameters
    ----------
    before, after
        Predictions of the same target.
    plates
        Metadata_Source, Metadata_Plate and subset.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    replicates, seed
        Of the bootstrap behind the interval of the calibration error.
    method
        Name of the method after.

    Raises
    ------
    UserError
        If no site has a label.
    """
    parts = [target_units(predictions, plates, level) for predictions in (before, after)]
    if not any(len(counted) for part in parts for counted in part.values()):
        raise UserError(
            "There are no labelled sites to draw reliability of; check the labels table."
        )
    tables = []
    with style():
        figure = new_figure(82 * MM)
        grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
        titles = [method_name(name) for name in ("unadapted", method)]
        for column, part, title in zip(grid.T, parts, titles, strict=True):
            for split, counted in part.items():
                if len(counted):
                    bins = bin_table(counted)
                    _draw(column, bins, split, error_in_words(counted, replicates, seed))
                    tables.append(bins.assign(panel=title, split=split))
            column[0].plot((0, 1), (0, 1), color=FAINT, linewidth=0.8, linestyle="--")
            column[0].set_title(title)
            column[0].legend(loc="upper left")
            column[1].set_xlabel(f"confidence (highest probability) per {level}")
        # Above 1 there is only the legend.
        grid[0, 0].set(xlim=(0, 1), ylim=(0, 1.45), yticks=np.linspace(0, 1, 6))
        for axis in (grid[0, 0].xaxis, grid[0, 0].yaxis, grid[1, 0].yaxis):
            axis.set_major_formatter(percent())
        grid[0, 0].set_ylabel("share that is right")
        grid[1, 0].set_ylabel("share of all")
    return Drawing(figure, pd.concat(tables, ignore_index=True))


def bin_table(counted: Units) -> pd.DataFrame:
    """Bins of confidence that hold predictions: from, to, n, share, confidence and accuracy (their means)."""
    confidence, right, bin_of = confidence_bins(counted)
    table = pd.DataFrame({"bin": bin_of, "confidence": confidence, "accuracy": right.astype(float)})
    means = table.groupby("bin").mean().assign(n=table.groupby("bin").size()).reset_index()
    means.insert(0, "to", (means["bin"] + 1) / BINS)
    means.insert(0, "from", means.pop("bin") / BINS)
    return means.assign(share=means["n"] / means["n"].sum())


def error_in_words(counted: Units, replicates: int, seed: int) -> str:
    """Calibration error with its interval, as in the table of metrics.

    Parameters
    ----------
    counted
        Units of one split.
    replicates, seed
        Of the bootstrap.
    """
    value = calibration_error(counted, np.ones((1, len(counted.resampled))))[0]
    weights = resampling_weights(counted.resampled, replicates, seed)
    low, high = metric_interval("calibration_error", value, calibration_error(counted, weights))
    return f"calibration error {value:.2f} [{low:.2f}, {high:.2f}]"


def _draw(column: np.ndarray, bins: pd.DataFrame, split: str, words: str) -> None:
    colour, marker = LOOKS[split]
    above, below = column
    label = f"{SPLIT_NAMES[split]}:\n{words}"
    above.plot(
        bins["confidence"],
        bins["accuracy"],
        color=colour,
        marker=marker,
        markersize=3.5,
        label=label,
    )
    shares = np.zeros(BINS)  # bins without a prediction are not in the table
    shares[np.round(bins["from"] * BINS).astype(int)] = bins["share"]
    below.stairs(shares, np.linspace(0, 1, BINS + 1), color=colour)
    for axes in column:
        axes.grid(axis="y")
