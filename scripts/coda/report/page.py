"""One HTML file with everything a reader looks at: no network, no scripts, and no other file but for a large study."""

import base64
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import jinja2
import pandas as pd
from PIL import Image

from coda.errors import UserError
from coda.files import replacing
from coda.redaction import without_secrets
from coda.report.plate_by_plate import PlateTable
from coda.versions import software_versions

TEMPLATE = Path(__file__).with_name("report.html.jinja")
# Pixels across a figure on the page: sharp on a dense screen, a tenth of the bytes of the print size.
SCREEN_WIDTH = 1100
# Whole pages of crops would be half of the bytes of a report, so what is as tall as a page is narrower.
PAGE_WIDTH = 850
QUALITY = 58
TALLEST = 16_383  # pixels; WebP holds no more
# Pairs and plates whose pictures stand in the file, half a megabyte each; those of more are files beside it.
INSIDE = 24
TOLD = 4  # notes on the first screen, besides weak points
LONG = 40  # rows; longer tables are one click away
SHORT = 26  # characters of a cell that stays on one line, such as a value with its interval


@dataclass
class Section:
    """A part of the report.

    Attributes
    ----------
    title : str
        Heading, also shown in the list of contents.
    text : str
        Plain text; a blank line starts a new paragraph.
    figures : list of (path, caption)
        PNG files; the caption is also what a screen reader tells of the image.
    tables : list of (pandas.DataFrame, caption)
        Shown whole, without their index; an empty cell stays empty.
    folded : dict
        More figures, by the words that a reader clicks on to see them; beyond the first `INSIDE` of these,
        links to the files.
    """

    title: str
    text: str = ""
    figures: list[tuple[str | Path, str]] = field(default_factory=list)
    tables: list[tuple[pd.DataFrame, str]] = field(default_factory=list)
    folded: dict[str, list[tuple[str | Path, str]]] = field(default_factory=dict)


@dataclass
class Front:
    """The first screen.

    Attributes
    ----------
    simulated : bool
        Whether the images are drawn by the workflow: a strip above everything.
    headline : str
        What was found and how sure it is.
    meaning : str
        What the best method does.
    scope : str
        Which labs, plates and compounds that is about.
    caution : str
        What one must know before one quotes the numbers.
    plates : coda.report.plate_by_plate.PlateTable or None
        Accuracies plate by plate.
    flattery : str
        What the numbers owe to compounds that are known, and how new ones do.
    weak : list of str
        Where the best method is weak though its mean is good.
    controls : list of str
        Methods that have not shown more than a control without the shape of cells.
    measured : str
        What the numbers are shares of.
    numbers : list of (value, what, interval)
        The numbers to remember, as text.
    figures : list of (path, caption)
        PNG files: the accuracies, and images.
    tables : list of (pandas.DataFrame, caption)
        The same accuracies in digits.
    words : list of (word, explanation)
        One click away: what the words of the page mean.
    advice : list of (answer, reasons)
        What a lab should use, and why, sentence by sentence.
    """

    simulated: bool = False
    headline: str = ""
    meaning: str = ""
    scope: str = ""
    caution: str = ""
    plates: PlateTable | None = None
    flattery: str = ""
    weak: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    measured: str = ""
    numbers: list[tuple[str, str, str]] = field(default_factory=list)
    figures: list[tuple[str | Path, str]] = field(default_factory=list)
    tables: list[tuple[pd.DataFrame, str]] = field(default_factory=list)
    words: list[tuple[str, str]] = field(default_factory=list)
    advice: list[tuple[str, list[str]]] = field(default_factory=list)


def write_report(
    path: str | Path,
    title: str,
    found: list[str],
    notes: list[str],
    sections: list[Section],
    front: Front | None = None,
    doubts: Sequence[str] = (),
    explorer: str | None = None,
) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    path
        The HTML file to make.
    title
        Title of the page.
    found
        What was found, point by point: one click below the first screen.
    notes
        What to keep in mind with it: the first `TOLD` below the first screen, the others one click further.
    sections
        Parts in their order.
    front
        The first screen.
    doubts
        What puts the results in doubt: a strip above them.
    explorer
        Address of the explorer, seen from the report, where there is one.

    Raises
    ------
    UserError
        If a figure is missing or no picture.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"paragraphs": _paragraphs, "cell": _cell, "inline": _inline}
    environment.filters["link"] = lambda figure: _link(figure, path)
    template = environment.from_string(TEMPLATE.read_text())
    front = front or Front()
    parts = [(section, _with_kinds(section.tables)) for section in sections]
    page = template.render(
        title=title,
        found=found,
        told=notes[:TOLD],
        notes=notes[TOLD:],
        parts=parts,
        inside=INSIDE,
        front=front,
        in_digits=_with_kinds(front.tables),
        long=LONG,
        short=SHORT,
        doubts=doubts,
        explorer=explorer,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def settings_table(config: dict) -> pd.DataFrame:
    """One row a config value: its key with dots, ``adapt.epochs``, and its value as text."""
    rows: list[tuple[str, str]] = []

    def add(prefix: str, value: object) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            rows.append(
                (prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            )

    add("", without_secrets(config))
    return pd.DataFrame(rows, columns=["setting", "value"])


def versions_table() -> pd.DataFrame:
    """Versions of Python and of the packages that the results depend on."""
    return pd.DataFrame(software_versions().items(), columns=["package", "version"])


def _inline(path: str | Path) -> str:
    """Give a picture as a data URL, at the size of a screen."""
    content = io.BytesIO()
    try:
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
        width = SCREEN_WIDTH if picture.height < 1.4 * picture.width else PAGE_WIDTH
        picture.thumbnail((width, TALLEST), Image.Resampling.LANCZOS, reducing_gap=None)
        picture.save(content, "WEBP", quality=QUALITY)
    except (OSError, ValueError) as error:
        raise UserError(f"The report cannot show the figure {path}: {error}") from error
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def _link(figure: str | Path, report: str | Path) -> str:
    """Say where a picture lies, seen from the report."""
    if not Path(figure).is_file():
        raise UserError(f"The report cannot link the figure {figure}: there is no such file")
    return quote(Path(os.path.relpath(figure, Path(report).parent)).as_posix())


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _cell(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_kinds(
    tables: list[tuple[pd.DataFrame, str]],
) -> list[tuple[pd.DataFrame, list[bool], str]]:
    """Give with each table which of its columns are numbers."""
    return [(table, _numeric(table), caption) for table, caption in tables]


def _numeric(table: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
