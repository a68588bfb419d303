"""The explorer: one HTML page on which to look at crops by their place in feature space and on their plates."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from bokeh.embed import components
from bokeh.models import (
    BooleanFilter,
    CDSView,
    ColumnDataSource,
    CustomJS,
    HoverTool,
    InlineStyleSheet,
    Range1d,
    Select,
    TapTool,
)
from bokeh.plotting import figure
from bokeh.resources import Resources
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from coda.columns import CHANGE, PLATE_KEYS, SITE_KEYS, natural_order, source_name
from coda.crops.composite import composites, stretched
from coda.crops.store import CropStore
from coda.evaluation.units import LOGIT, classes_of, probabilities_of
from coda.figures.style import PALETTE
from coda.files import replacing
from coda.wells import row_letters, well_place

TEMPLATE = Path(__file__).with_name("explorer.html.jinja")
MOST = 40_000  # crops on the page
MANY = 10_000  # crops from which on thumbnails and points are smaller
FEW = 4_000  # crops up to which thumbnails are larger
LANDMARKS = 1_000  # crops that t-SNE places; it takes minutes with ten times as many
NEIGHBOURS = 6
SHEET = 2_048  # pixels; browsers decode pictures of this side on any device
QUALITY = 60  # of WebP
BLANK = "#c8c8c8"
# In the colours of the page, light or dark.
CHOICE = (
    ".bk-input { background-color: var(--ground); color: var(--ink); border-color: var(--rule); }"
)


def crops_table(
    home: pd.DataFrame, before: Sequence[pd.DataFrame], after: Sequence[pd.DataFrame], seed: int = 0
) -> pd.DataFrame:
    """Gather crops of the training source and the targets, with their places and calls before and after adaptation.

    Parameters
    ----------
    home
        Predictions of the training source, unadapted, with ``Embedding``.
    before, after
        Predictions of each target, unadapted and adapted, with ``Embedding``.
    seed
        Seed of the choice of crops and of t-SNE.

    Returns
    -------
    pandas.DataFrame
        A row a site: ``Metadata_*``, Quality_ok; x, y, call and confidence with the endings ``_before`` and
        ``_after``, which are the same for the training source; neighbours: the rows of the nearest crops
        after adaptation, by cosine. At most `MOST` rows, chosen at random.
    """
    old = pd.concat([home, *before], ignore_index=True)
    new = pd.concat([home, *after], ignore_index=True)
    new = old[SITE_KEYS].merge(new, on=SITE_KEYS, how="left", validate="one_to_one")
    random = np.random.default_rng(seed)
    if len(old) > MOST:
        chosen = np.sort(random.permutation(len(old))[:MOST])
        old, new = (each.iloc[chosen].reset_index(drop=True) for each in (old, new))
    embeddings = [np.stack(each["Embedding"]).astype(np.float32) for each in (old, new)]
    kept = [name for name in old if name.startswith("Metadata_") or name == "Quality_ok"]
    table = old[kept].copy()
    at_home = (old["Metadata_Source"] == home["Metadata_Source"].iloc[0]).to_numpy()
    moved = np.flatnonzero(~at_home)
    with threadpool_limits(1):  # threads that wait for a busy core take several times as long
        places = project(np.concatenate([embeddings[0], embeddings[1][moved]]), seed)
    later = places[: len(old)].copy()
    later[moved] = places[len(old) :]
    for each, place, moment in ((old, places[: len(old)], "before"), (new, later, "after")):
        classes = classes_of(each)
        chances = probabilities_of(each[[LOGIT + name for name in classes]].to_numpy(np.float64))
        table[f"x_{moment}"], table[f"y_{moment}"] = place.T
        table[f"call_{moment}"] = np.array(classes)[chances.argmax(axis=1)]
        table[f"confidence_{moment}"] = chances.max(axis=1)
    number = min(NEIGHBOURS, len(table) - 1)
    nearest = NearestNeighbors(n_neighbors=number + 1, metric="cosine").fit(embeddings[1])
    found = nearest.kneighbors(return_distance=False, n_neighbors=number)
    table["neighbours"] = list(found)
    return table


def project(features: np.ndarray, seed: int) -> np.ndarray:
    """Place features (N, D) in a plane: t-SNE of `LANDMARKS` of them, and each other beside its nearest three."""
    spread = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    parts = min(50, *features.shape)
    reduced = PCA(parts, random_state=seed).fit_transform(features)
    chosen = np.random.default_rng(seed).permutation(len(features))[:LANDMARKS]
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed)
    drawn = tsne.fit_transform(reduced[chosen])
    number = min(3, len(chosen))
    distance, nearest = (
        NearestNeighbors(n_neighbors=number).fit(reduced[chosen]).kneighbors(reduced)
    )
    weight = 1 / np.maximum(distance, 1e-6)
    places = (drawn[nearest] * weight[..., None]).sum(axis=1) / weight.sum(axis=1, keepdims=True)
    places[chosen] = drawn
    return places


def thumbnails(table: pd.DataFrame, stores: Sequence[CropStore]) -> tuple[np.ndarray, int]:
    """Make small colour pictures of crops, each source stretched by itself.

    Parameters
    ----------
    table
        What `crops_table` gives.
    stores
        Crops of the plates, among them all sites of the table.

    Returns
    -------
    tuple of numpy.ndarray and int
        uint8 of shape (N, side, side, 3), in the order of the table, and the side in pixels.
    """
    first = stores[0]
    most = 64 if len(table) <= FEW else 40 if len(table) <= MANY else 32
    block = max(1, min(first.height, first.width) // most)
    side = min(first.height, first.width) // block
    small = np.zeros((len(table), len(first.channels), side, side), np.float32)
    places = table[SITE_KEYS].reset_index(names="place")
    for store in stores:
        # Where crops are single cells, the first stands for its site.
        sites = store.table[SITE_KEYS].reset_index(names="crop").drop_duplicates(SITE_KEYS)
        mine = places.merge(sites, on=SITE_KEYS)
        for start in range(0, len(mine), 256):
            part = mine.iloc[start : start + 256]
            crops = store.gather(part["crop"].to_numpy())[..., : side * block, : side * block]
            shape = (len(part), -1, side, block, side, block)
            small[part["place"]] = crops.reshape(shape).mean(axis=(3, 5), dtype=np.float32)
    pictures = np.empty((len(table), side, side, 3), np.uint8)
    sources = table["Metadata_Source"].to_numpy()
    for source in np.unique(sources):
        mine = np.flatnonzero(sources == source)
        light = composites(stretched(small[mine]), first.channels)
        pictures[mine] = np.round(255 * light)
    return pictures, side


def sheets(pictures: np.ndarray) -> list[str]:
    """Lay pictures (N, side, side, 3) row by row on sheets of `SHEET` pixels, each a WebP as data URL."""
    side = pictures.shape[1]
    across = SHEET // side
    made = []
    for start in range(0, len(pictures), across**2):
        part = pictures[start : start + across**2]
        rows = -(-len(part) // across)
        grid = np.zeros((rows * across, side, side, 3), np.uint8)
        grid[: len(part)] = part
        sheet = grid.reshape(rows, across, side, side, 3).swapaxes(1, 2)
        content = io.BytesIO()
        Image.fromarray(sheet.reshape(rows * side, across * side, 3)).save(
            content, "WEBP", quality=QUALITY
        )
        made.append(f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}")
    return made


def looks(
    table: pd.DataFrame, explanations: pd.DataFrame | None, seen: tuple[float, float]
) -> dict:
    """Gather for the page where networks look on some of its crops, and what each channel does to their calls.

    Parameters
    ----------
    table
        What `crops_table` gives.
    explanations
        What `coda.evaluation.attention.explain_pair` gives of the training source and its targets, if anything.
    seen
        Shares of a crop's height and width, in its middle, that the networks see.

    Returns
    -------
    dict
        ``seen``; ``channels``; and ``crops``, by row of the table a list of one entry a network: ``moment``, before or
        after; ``map``, the attention to each patch from 0, none, to 255, the most on that crop; ``change``, the points
        of probability that blanking each channel adds to the call.
    """
    found: dict = {"seen": list(seen), "channels": [], "crops": {}}
    if explanations is None or explanations.empty:
        return found
    # A crop of the training source is explained beside each target.
    once = explanations.drop_duplicates([*SITE_KEYS, "Method"])
    places = table[SITE_KEYS].reset_index(names="place")
    once = once.merge(places, on=SITE_KEYS)
    changes = [name for name in once if name.startswith(CHANGE)]
    found["channels"] = [name.removeprefix(CHANGE) for name in changes]
    for _, crop in once.iterrows():
        shares = np.asarray(crop["Attention"], dtype=float)
        found["crops"].setdefault(int(crop["place"]), []).append(
            {
                "moment": "before" if crop["Method"] == "unadapted" else "after",
                "map": np.round(255 * shares / shares.max()).astype(int).tolist(),
                "change": [round(100 * float(crop[name]), 1) for name in changes],
            }
        )
    return found


@dataclass(frozen=True)
class About:
    """What the page says of all its crops.

    Attributes
    ----------
    title : str
        Title of the page.
    home : str
        The training source.
    total : int
        How many crops there are; the page says so where it holds fewer.
    classes : list of str
        The mechanisms that can be called.
    widths : mapping of str to int
        Width of a crop of each source in µm, where it is known.
    simulated : bool
        Whether the workflow drew the images, which a strip says.
    """

    title: str
    home: str
    total: int
    classes: Sequence[str]
    widths: Mapping[str, int] = field(default_factory=dict)
    simulated: bool = False


def widths_of(stores: Sequence[CropStore], table: pd.DataFrame) -> dict[str, int]:
    """Give the width of a crop of each source in whole µm, where the size of its pixels is known."""
    sizes = {
        source: store.um_per_pixel(source)
        for store in stores
        for source in table["Metadata_Source"].unique()
        if store.um_per_pixel(source)
    }
    return {source: round(stores[0].width * um) for source, um in sizes.items()}


def write_explorer(
    path: str | Path,
    table: pd.DataFrame,
    pictures: np.ndarray,
    about: About,
    attention: dict | None = None,
) -> None:
    """Write the page, whole or not at all; it needs no network and no other file.

    Parameters
    ----------
    path
        The HTML file to make.
    table
        What `crops_table` gives.
    pictures
        What `thumbnails` gives.
    about
        What the page says of them all.
    attention
        What `looks` gives, if any crop was looked at so.
    """
    names = {
        "mechanism": _names(table["Metadata_moa"].fillna("not labelled")),
        "lab": _names(table["Metadata_Source"].map(source_name)),
        "plate": _names(table[PLATE_KEYS].agg(lambda keys: f"{source_name(keys.iloc[0])}, {keys.iloc[1]}", axis=1)),
        "compound": _names(_compound(table)),
    }  # fmt: skip
    attention = attention or looks(table, None, (1.0, 1.0))
    if attention["crops"]:
        shown = pd.Series(table.index.isin(list(attention["crops"])), table.index)
        names["attention"] = _names(shown.map({True: "shown", False: "not shown"}))
    calls = list(about.classes)
    spots = np.array([well_place(well) for well in table["Metadata_Well"]])
    data = {name: codes for name, (codes, _) in names.items()}
    for moment in ("before", "after"):
        data |= {f"{axis}_{moment}": _small(table[f"{axis}_{moment}"]) for axis in "xy"}
        data[f"call_{moment}"] = pd.Categorical(table[f"call_{moment}"], calls).codes.astype(
            "int16"
        )
        data[f"confidence_{moment}"] = _small(table[f"confidence_{moment}"])
    data |= {"row": spots[:, 0].astype("int16"), "column": spots[:, 1].astype("int16")}
    quality = table.get("Quality_ok", pd.Series(True, table.index))
    data["quality"] = quality.fillna(False).to_numpy(bool).astype("uint8")
    data["well"], data["site"] = (
        list(table[f"Metadata_{key}"].astype(str)) for key in ("Well", "Site")
    )
    data |= {f"colour_{moment}": np.full(len(table), BLANK) for moment in ("before", "after")}
    source = ColumnDataSource(data, name="crops")
    facts = {
        "side": int(pictures.shape[1]),
        "across": SHEET // int(pictures.shape[1]),
        "names": {name: labels for name, (_, labels) in names.items()},
        "calls": calls,
        "neighbours": np.stack(table["neighbours"]).tolist(),
        "palette": [*PALETTE, *MORE],
        "ramp": RAMP,
        "blank": BLANK,
        "total": about.total,
        "attention": attention,
        "widths": {source_name(source): width for source, width in about.widths.items()},
    }
    script, parts = components(_parts(source, facts["names"]))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    resources = Resources(mode="inline", components=["bokeh", "bokeh-gl", "bokeh-widgets"])
    page = environment.from_string(TEMPLATE.read_text()).render(
        title=about.title,
        home=source_name(about.home),
        simulated=about.simulated,
        bokeh=resources.render(),
        script=script,
        parts=parts,
        # "<" could end the script that holds the text.
        facts=json.dumps(facts).replace("<", "\\u003c"),
        sheets=sheets(pictures),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


FILTERS = {
    "mechanism": "Only mechanism",
    "lab": "Only lab",
    "compound": "Only compound",
    "attention": "Where networks look",
}
# Beyond the palette of the figures; with many classes, hovering tells what the colours cannot.
MORE = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933"]
MORE += ["#DDCC77", "#CC6677", "#882255", "#AA4499", "#661100"]
# Nine steps of the map cividis, which colour-blind readers see as others do.
RAMP = ["#00224e", "#1f3a6d", "#434e6c", "#61656f", "#7d7c78", "#9a9376", "#b9ac70", "#dac560", "#fee838"]  # fmt: skip


def _parts(source: ColumnDataSource, names: Mapping[str, list[str]]) -> dict:
    """Make controls, the two maps and the plate, all on one source of data; the page gives each its place."""
    shown = BooleanFilter(name="shown")
    marks = ColumnDataSource(
        {name: [] for name in ("x_before", "y_before", "x_after", "y_after", "line")}, name="marks"
    )
    wells = ColumnDataSource(
        {"row": [], "column": [], "colour": [], "first": [], "line": []}, name="wells"
    )
    size = 6 if len(source.data["row"]) <= MANY else 4
    hover = CustomJS(code="window.explorer.hover(cb_data.index.indices)")
    panels = []
    for moment, words in (("before", "Before adaptation"), ("after", "After adaptation")):
        panel = figure(
            title=words, sizing_mode="stretch_width", height=400, output_backend="webgl", name=f"map_{moment}",
            tools="pan,wheel_zoom,box_zoom,reset", active_scroll="wheel_zoom",
            x_axis_location=None, y_axis_location=None,
        )  # fmt: skip
        panel.grid.visible = False
        panel.toolbar.logo = None
        _see_through(panel)
        points = panel.scatter(
            f"x_{moment}", f"y_{moment}", source=source, view=CDSView(filter=shown), size=size,
            fill_color=f"colour_{moment}", line_color=None, fill_alpha=0.8, nonselection_fill_alpha=0.35,
        )  # fmt: skip
        panel.scatter(
            f"x_{moment}",
            f"y_{moment}",
            source=marks,
            size=13,
            fill_color=None,
            line_color="line",
            line_width=2,
        )
        panel.add_tools(
            HoverTool(renderers=[points], tooltips=None, callback=hover),
            TapTool(renderers=[points]),
        )
        panels.append(panel)
    # One view for both would move the after map with the before one: places are those of one projection.
    panels[1].x_range, panels[1].y_range = panels[0].x_range, panels[0].y_range
    plate = figure(
        sizing_mode="stretch_width", height=300, tools="tap", toolbar_location=None, name="plate",
        x_axis_location="above", x_range=Range1d(0.5, 24.5), y_range=Range1d(16.5, 0.5),
    )  # fmt: skip
    plate.grid.visible = False
    _see_through(plate)
    rows = [1, 4, 8, 12, 16, 24, 32]
    plate.yaxis.ticker = rows
    plate.yaxis.major_label_overrides = {row: row_letters(row - 1) for row in rows}
    plate.rect(
        "column",
        "row",
        0.9,
        0.9,
        source=wells,
        fill_color="colour",
        line_color="line",
        line_width=1.5,
    )
    told = "window.explorer"
    source.selected.js_on_change("indices", CustomJS(code=f"{told}.picked(this.indices)"))
    wells.selected.js_on_change("indices", CustomJS(code=f"{told}.wellPicked(this.indices)"))
    colouring = Select(
        title="Colour", name="colouring", sizing_mode="stretch_width",
        options=["mechanism", "lab", "plate", "confidence", "quality", "right or wrong"], value="mechanism",
    )  # fmt: skip
    colouring.js_on_change("value", CustomJS(code=f"{told}.recolour()"))
    chosen_plate = Select(
        title="Plate",
        name="plates",
        options=names["plate"],
        value=names["plate"][0],
        sizing_mode="stretch_width",
    )
    chosen_plate.js_on_change("value", CustomJS(code=f"{told}.drawPlate()"))
    filters = []
    for kind in [name for name in FILTERS if name in names]:
        choice = Select(
            title=FILTERS[kind], name=f"only_{kind}", options=["all", *names[kind]], value="all",
            sizing_mode="stretch_width",
        )  # fmt: skip
        choice.js_on_change("value", CustomJS(code=f"{told}.filter()"))
        filters.append(choice)
    for choice in (colouring, *filters, chosen_plate):
        choice.stylesheets = [InlineStyleSheet(css=CHOICE)]
    return {part.name: part for part in (colouring, *filters, *panels, chosen_plate, plate)}


def _see_through(panel: figure) -> None:
    """Leave the ground of a figure to the page, which is light or dark as its reader likes."""
    panel.background_fill_color = panel.border_fill_color = None


def _names(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    labels = sorted(values.unique(), key=natural_order)
    return pd.Categorical(values, labels).codes.astype("int32"), labels


def _compound(table: pd.DataFrame) -> pd.Series:
    """Name compounds, as known as they are; the identifier keeps two of one name apart."""
    named = table.get("Metadata_pert_iname", pd.Series(pd.NA, table.index))
    known = table["Metadata_JCP2022"].fillna("no compound")
    return known.where(named.isna() | (named == known), named.astype(str) + " (" + known + ")")


def _small(values: pd.Series) -> np.ndarray:
    return values.to_numpy(np.float32)
