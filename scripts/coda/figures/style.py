"""The style of all figures: sizes for print, and colours that colour-blind readers can tell apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter, LogFormatterMathtext, PercentFormatter

from coda.files import replacing, write_table
from coda.methods import COMPOSED

MM = 1 / 25.4
WIDTH = 180 * MM  # two columns of a journal page, in inches
PAGE = 297 * MM  # height of A4
TEXT = 7  # points, the smallest that prints well
INK, FAINT, EMPTY = "#1a1a1a", "#767676", "#e9e9e9"

# Okabe and Ito (2008), without their yellow, too faint on white; grey last.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#1a1a1a", "#7f7f7f"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
SEQUENTIAL = "Blues"

METHOD_COLOURS = {
    "in_domain": "#1a1a1a",
    "unadapted": "#b0b0b0",
    "oda": "#56B4E9",
    "coda": "#0072B2",
    "harmonised_unadapted_aligned_dmso": "#C51B7D",
    "harmonised_coda_consensus": "#332288",
    "supervised": "#E69F00",
    "intensity": "#CC79A7",
    "position": "#D55E00",
}
ALIGNED, HARMONISED = "#009E73", "#882255"
LONGEST = 34  # characters of a name beside a figure, about 40 mm
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.titlesize": 8,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.0,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    # Names of compounds and mechanisms are no formulas, whatever signs they hold.
    "text.parse_math": False,
}


class Drawing(NamedTuple):
    """A figure and the table behind it."""

    figure: Figure
    table: pd.DataFrame


def method_colour(method: str) -> str:
    """Colour of a method, or of a row such as ``in_domain``.

    Harmonised and aligned methods have colours of their own; others that of what they vary: ``coda_replay_knn`` that
    of ``coda``.
    """
    made = COMPOSED.get(method)
    if made is None or method in METHOD_COLOURS:
        return METHOD_COLOURS.get(method, FAINT)
    if made.harmonised:
        return HARMONISED
    if made.alignment:
        return ALIGNED
    varied = made.head if made.head in METHOD_COLOURS else made.adaptation.split("_")[0]
    return METHOD_COLOURS.get(varied, FAINT)


def look(number: int) -> tuple[str, str]:
    """Colour and marker of one line among many, by its number: no two of 64 share both, neighbours share neither."""
    round_ = number // len(PALETTE)
    return PALETTE[number % len(PALETTE)], MARKERS[(number + round_) % len(MARKERS)]


def shortened(name: str, longest: int = LONGEST) -> str:
    """Cut a name that would take too much of a figure."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


@contextmanager
def style() -> Iterator[None]:
    """Draw within this block in the common style, whatever the user's matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure, sizes in inches, that needs no window and no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def percent() -> PercentFormatter:
    """Make a formatter of ticks that writes shares in percent; each axis needs its own."""
    return PercentFormatter(1, symbol=" %")


def scale_bar(axes: Axes, um_per_pixel: float | None) -> None:
    """Draw a bar of a round length, a third of the picture at most, over its lower left corner, and name it.

    Parameters
    ----------
    axes
        Axes that show a picture.
    um_per_pixel
        Size of its pixels; nothing is drawn where it is unknown.
    """
    if not um_per_pixel:
        return
    height, width = axes.images[0].get_size()
    most = width * um_per_pixel / 3
    power = 10 ** np.floor(np.log10(most))
    length = max(step for step in (1, 2, 5) if step * power <= most) * power
    left, low = 0.06 * width, 0.94 * height
    looks = {"path_effects": [withStroke(linewidth=1.5, foreground="black")]}
    axes.plot(
        [left, left + length / um_per_pixel], [low, low], color="white", linewidth=1.5, **looks
    )
    axes.text(left, low - 0.03 * height, f"{length:g} µm", color="white", va="bottom", **looks)


def _write_powers_out(figure: Figure) -> None:
    """Label logarithmic axes with plain numbers: by default their labels are formulas, which are not drawn."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for get, put in (
                (axis.get_major_formatter, axis.set_major_formatter),
                (axis.get_minor_formatter, axis.set_minor_formatter),
            ):
                if isinstance(get(), LogFormatterMathtext):
                    put(LogFormatter(axis.get_transform().base, get().labelOnlyBase))


def save_figure(drawing: Drawing, stem: str | Path, dpi: int = 300, vector: bool = True) -> None:
    """Write a figure and the table behind it.

    The files hold no date, so that drawing twice gives the same bytes.

    Parameters
    ----------
    drawing
        Figure and table.
    stem
        Path without its ending: ``.png``, ``.pdf`` and ``.csv`` are added.
    dpi
        Resolution of the PNG.
    vector
        Whether to write the PDF.
    """
    formats = {".png": {"Software": None}}
    if vector:
        formats[".pdf"] = {"CreationDate": None, "Producer": None}
    _write_powers_out(drawing.figure)
    for suffix, metadata in formats.items():
        with style(), replacing(f"{stem}{suffix}") as temporary:
            drawing.figure.savefig(temporary, dpi=dpi, metadata=metadata)
    write_table(drawing.table, f"{stem}.csv")
