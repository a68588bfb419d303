"""Map of embeddings before and after adaptation, by mechanism of action and by source."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from coda.columns import WELL_KEYS, source_name
from coda.figures.style import (
    EMPTY,
    FAINT,
    MARKERS,
    MM,
    PALETTE,
    Drawing,
    new_figure,
    shortened,
    style,
)
from coda.methods import method_name

SHOWN = 8  # more classes than this cannot be told apart by colour and marker
LINE = 32  # characters of a method in one line
MOST = 900  # wells on the map; t-SNE then takes some ten seconds on one core


def embedding_map(
    source: pd.DataFrame,
    before: pd.DataFrame,
    after: pd.DataFrame,
    seed: int = 0,
    method: str = "coda",
) -> Drawing:
    """Draw the wells of the training source and of the target in one t-SNE, before and after adaptation.

    One projection (principal components, then t-SNE) holds all three sets, so the training source lies
    in the same place above and below, and only the target's wells move. Wells are means of their sites'
    embeddings, standardised together. Labelled wells only.

    Parameters
    ----------
    source
        Predictions of the training source, unadapted, with ``Embedding``.
    before, after
        Predictions of the target source, unadapted and adapted, with ``Embedding``.
    seed
        Seed of the choice of wells and of t-SNE.
    method
        Name of the method after.

    Returns
    -------
    Drawing
        The table holds each well's place: set (source, before, after), ``Metadata_*``, x and y.
    """
    random = np.random.default_rng(seed)
    home, away, moved = (_wells(predictions) for predictions in (source, before, after))
    home = home.iloc[_some(len(home), MOST // 3, random)]
    away, moved = (
        wells.iloc[_some(len(away), MOST // 3, np.random.default_rng(seed))]
        for wells in (away, moved)
    )
    table = pd.concat(
        [home.assign(set="source"), away.assign(set="before"), moved.assign(set="after")],
        ignore_index=True,
    )
    table[["x", "y"]] = _project(np.stack(table.pop("Embedding")), seed)
    with style():
        figure = new_figure(150 * MM)
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        for row, moment, name in zip(grid, ("before", "after"), ("unadapted", method), strict=True):
            points = table[table["set"].isin(["source", moment])]
            _by_class(row[0], points, table)
            _by_source(row[1], points)
            row[0].set_ylabel(fill(method_name(name), LINE), fontsize=8)
        grid[0, 0].set_title("by mechanism of action")
        grid[0, 1].set_title("by source")
        for axes in grid.ravel():
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color("#cccccc")
        keys = [axes.get_legend_handles_labels() for axes in grid[1]]
        handles, words = (keys[0][part] + keys[1][part] for part in (0, 1))
        figure.legend(
            handles, words, loc="outside lower center", ncols=3, markerscale=1.3, handletextpad=0.2
        )
    return Drawing(figure, table)


def _wells(predictions: pd.DataFrame) -> pd.DataFrame:
    rows = predictions[predictions["Metadata_moa"].notna()]
    grouped = rows.groupby([*WELL_KEYS, "Metadata_moa"], sort=True)["Embedding"]
    return grouped.agg(lambda parts: np.mean(np.stack(list(parts)), axis=0)).reset_index()


def _some(total: int, most: int, random: np.random.Generator) -> np.ndarray:
    return np.sort(random.permutation(total)[:most])


def _project(features: np.ndarray, seed: int) -> np.ndarray:
    spread = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    parts = min(50, *features.shape)
    reduced = PCA(parts, random_state=seed, svd_solver="full").fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def _by_class(axes: Axes, points: pd.DataFrame, table: pd.DataFrame) -> None:
    commonest = (
        table["Metadata_moa"]
        .value_counts()
        .sort_index(kind="stable")
        .sort_values(ascending=False, kind="stable")
    )
    shown = sorted(commonest.index[:SHOWN])
    others = points[~points["Metadata_moa"].isin(shown)]
    if len(others):
        label = f"{len(commonest) - len(shown)} other classes"
        axes.scatter(others["x"], others["y"], s=4, color=EMPTY, linewidths=0, label=label)
    for name, colour, marker in zip(shown, PALETTE, MARKERS, strict=False):
        _scatter(
            axes, points[points["Metadata_moa"] == name], colour, marker, 0.85, shortened(name)
        )


def _by_source(axes: Axes, points: pd.DataFrame) -> None:
    for part, colour, marker, words in (
        ("source", FAINT, "o", "training source"),
        (None, PALETTE[0], "^", "target source"),
    ):
        rows = points[points["set"] == part] if part else points[points["set"] != "source"]
        label = f"{source_name(rows['Metadata_Source'].iloc[0])} ({words})"
        _scatter(axes, rows, colour, marker, 0.7, label)


def _scatter(
    axes: Axes, rows: pd.DataFrame, colour: str, marker: str, alpha: float, label: str
) -> None:
    look = {"color": colour, "marker": marker, "alpha": alpha, "label": label}
    axes.scatter(rows["x"], rows["y"], s=9, linewidths=0, **look)
