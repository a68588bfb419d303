"""Gain in recall of each mechanism of action by adaptation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from coda.columns import ADAPTED, SPLIT_NAMES
from coda.errors import UserError
from coda.evaluation.bootstrap import draws, interval
from coda.evaluation.units import Units, target_units
from coda.figures.style import FAINT, INK, MM, PALETTE, Drawing, new_figure, shortened, style
from coda.methods import method_name

FEWEST = 5  # wells (or compounds) of a mechanism that an interval needs


def recall_gains(
    before: pd.DataFrame,
    after: pd.DataFrame,
    plates: pd.DataFrame,
    level: str = "image",
    replicates: int = 1000,
    seed: int = 0,
    method: str = "coda",
) -> Drawing:
    """Draw the gain in recall of every mechanism, sorted by the gain on adapted plates, with 95 % intervals.

    Parameters
    ----------
    before, after
        Predictions of the same sites.
    plates
        Metadata_Source, Metadata_Plate and subset.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    replicates, seed
        Of the bootstrap over wells (compounds at their level), in which both share their resamples.
    method
        Name of the method after.

    Raises
    ------
    UserError
        If no site has a label.
    """
    parts, again = (target_units(predictions, plates, level) for predictions in (before, after))
    table = pd.concat(
        [
            gain_table(parts[split], again[split], replicates, seed).assign(split=split)
            for split in parts
        ],
        ignore_index=True,
    )
    if table["n"].sum() == 0:
        raise UserError("There are no labelled sites to draw gains of; check the labels table.")
    order = table[table["split"] == ADAPTED].sort_values("gain", na_position="first")["moa"]
    with style():
        figure = new_figure((26 + max(3.4, 20 / len(order)) * len(order)) * MM)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, split in zip(panels, parts, strict=True):
            _bars(axes, table[table["split"] == split].set_index("moa").loc[order])
            axes.set_title(SPLIT_NAMES[split].capitalize())
            axes.set_xlabel(f"gain in {level}s named right, points")
        panels[0].set_yticks(range(len(order)), [shortened(name) for name in order])
        panels[0].set_ylim(-0.6, len(order) - 0.4)
        panels[0].xaxis.set_major_formatter(lambda share, _: f"{100 * share:+.0f}")
        figure.suptitle(f"{method_name(method)}, over unadapted")
    return Drawing(figure, table)


def gain_table(before: Units, after: Units, replicates: int, seed: int) -> pd.DataFrame:
    """Recall of each mechanism before and after adaptation, and its gain.

    Only the wells of a mechanism count in its recall, so they alone are resampled, over all plates.

    Parameters
    ----------
    before, after
        The same units, predicted before and after.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a mechanism: moa, before, after, gain, low, high, n, reason.
    """
    groups = len(before.resampled)
    sizes = np.bincount(before.groups, minlength=groups)
    hits = [
        np.bincount(each.groups, each.probabilities.argmax(axis=1) == each.labels, groups)
        for each in (before, after)
    ]
    rows = []
    for index, name in enumerate(before.classes):
        own = before.resampled["label"].to_numpy() == index
        row = {"moa": name, "n": int(sizes[own].sum()), "reason": "no labelled images"}
        if own.any():
            was, now = (right[own].sum() / sizes[own].sum() for right in hits)
            row |= {"before": was, "after": now, "gain": now - was, "reason": None}
        if own.sum() >= FEWEST:
            weights = draws(name, int(own.sum()), replicates, seed)
            low, high = interval((weights @ (hits[1] - hits[0])[own]) / (weights @ sizes[own]))
            row |= {"low": low, "high": high}
        elif own.any():
            row["reason"] = f"no interval from fewer than {FEWEST} to resample"
        rows.append(row)
    columns = ["moa", "before", "after", "gain", "low", "high", "n", "reason"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _bars(axes: Axes, rows: pd.DataFrame) -> None:
    gain, low, high = rows[["gain", "low", "high"]].to_numpy(float).T
    colours = np.where(low > 0, PALETTE[0], np.where(high < 0, PALETTE[3], "#c4c4c4"))
    places = np.arange(len(rows))
    axes.barh(places, gain, 0.7, color=list(colours))
    ends = np.abs([low - gain, high - gain])
    axes.errorbar(gain, places, xerr=ends, fmt="none", ecolor=INK, elinewidth=0.6, capsize=1)
    axes.axvline(0, color=FAINT, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
