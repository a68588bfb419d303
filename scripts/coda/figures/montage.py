"""Montage of crops: the same compounds as each source imaged them."""

from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.figure import SubFigure

from coda.columns import source_name, sources_in_order
from coda.crops.composite import composites, stretched
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.figures.style import MM, TEXT, Drawing, new_figure, scale_bar, style

LINE = 22  # characters of a title in one line


def montage(store: CropStore, number: int = 5, seed: int = 0) -> Drawing:
    """Draw `number` compounds as composites, one row a source, then the first of them channel by channel.

    Channels are stretched per source, by percentiles over all crops shown, as gains differ between microscopes.

    Parameters
    ----------
    store
        Crops of all sources to show.
    number
        How many compounds, of different mechanisms of action where possible, that all sources have.
    seed
        Seed of the choice of compounds and sites.

    Returns
    -------
    Drawing
        The table lists the crops shown.
    """
    chosen = _choose(store.table, number, seed)
    sources, names = (
        sources_in_order(chosen["Metadata_Source"]),
        list(dict.fromkeys(chosen["name"])),
    )
    crops, groups = chosen["crop"].to_numpy(), chosen["Metadata_Source"].to_numpy()
    gathered = store.gather(crops)
    pixels = np.empty(gathered.shape, np.float32)
    pictures = np.empty((len(gathered), *gathered.shape[2:], 3), np.float32)
    for source in sources:
        mine = groups == source
        pixels[mine] = stretched(gathered[mine])
        pictures[mine] = composites(pixels[mine], store.channels)
    # Crops come compound by compound, each from all sources.
    order = np.arange(len(chosen)).reshape(len(names), len(sources)).T
    with style():
        across = max(len(names), len(store.channels))
        tile = min(160 / across, 190 / (2 * len(sources)))
        title = 3 * max(name.count("\n") + 1 for name in names)  # mm
        figure = new_figure(
            (2 * tile * len(sources) + 28 + title) * MM,
            width=max(90, 1.07 * tile * across + 8) * MM,
        )
        top, bottom = figure.subfigures(
            2, 1, height_ratios=[len(sources) * tile + 13 + title, len(sources) * tile + 15]
        )
        sizes = [store.um_per_pixel(source) for source in sources]
        _grid(top, pictures[order], sources, names, sizes)
        top.suptitle("All channels together, one compound a column")
        _grid(bottom, pixels[order[:, 0]], sources, store.channels, sizes)
        bottom.suptitle(f"Channel by channel, {names[0].splitlines()[0]}")
    return Drawing(figure, chosen.drop(columns=["name", "crop"]))


def _grid(
    figure: SubFigure,
    images: np.ndarray,
    sources: list[str],
    titles: list[str],
    um_per_pixel: list[float | None],
) -> None:
    grid = figure.subplots(len(sources), len(titles), squeeze=False)
    for axes, image in zip(grid.ravel(), images.reshape(-1, *images.shape[2:]), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, source, um in zip(grid[:, 0], sources, um_per_pixel, strict=True):
        axes.set_ylabel(source_name(source))
        scale_bar(axes, um)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=TEXT)


def _choose(table: pd.DataFrame, number: int, seed: int) -> pd.DataFrame:
    """One crop of each chosen compound from each source, of good quality if there is one."""
    random = np.random.default_rng(seed)
    rows = table.reset_index(drop=True).rename_axis("crop").reset_index()
    rows = rows[rows["Metadata_moa"].notna()]
    everywhere = (
        rows.groupby("Metadata_JCP2022")["Metadata_Source"].nunique()
        == rows["Metadata_Source"].nunique()
    )
    rows = rows[rows["Metadata_JCP2022"].isin(everywhere.index[everywhere])]
    if rows.empty:
        raise UserError(
            "No labelled compound was imaged by every source; there is no montage to draw."
        )
    compounds = rows.drop_duplicates("Metadata_JCP2022").sort_values("Metadata_JCP2022")
    compounds = compounds.iloc[random.permutation(len(compounds))]
    again = compounds.duplicated("Metadata_moa")
    wanted = pd.concat([compounds[~again], compounds[again]])["Metadata_JCP2022"].iloc[:number]
    parts = []
    for compound in wanted:
        for source in sources_in_order(rows["Metadata_Source"]):
            sites = rows[
                (rows["Metadata_JCP2022"] == compound) & (rows["Metadata_Source"] == source)
            ]
            if "Quality_ok" in sites and sites["Quality_ok"].any():
                sites = sites[sites["Quality_ok"]]
            parts.append(sites.iloc[[random.integers(len(sites))]])
    chosen = pd.concat(parts, ignore_index=True)
    title = chosen.get("Metadata_pert_iname", chosen["Metadata_JCP2022"]).fillna(
        chosen["Metadata_JCP2022"]
    )
    chosen["name"] = [
        _titled(name, moa) for name, moa in zip(title, chosen["Metadata_moa"], strict=True)
    ]
    return chosen[
        [*[name for name in chosen.columns if name.startswith("Metadata_")], "name", "crop"]
    ]


def _titled(name: str, moa: str) -> str:
    """Name a column by its compound and, below it, the whole mechanism in lines that fit."""
    return "\n".join([*wrap(name, LINE), *wrap(moa, LINE)])
