"""Make the pictures that the documentation shows: screenshots of the report and the explorer, and some figures.

python tools/screenshots.py results/demo/report.html docs/images
"""

import io
import sys
from pathlib import Path

from browser import open_browser
from PIL import Image

# Name, window size in CSS pixels, dark mode, heading to scroll to (None: top of the page).
SCREENS = [
    ("report", (1100, 1150), False, None),
    ("report-data", (1100, 600), False, "Data"),
    ("report-phone", (390, 844), True, None),
]
# Figures of the results whose captions are a page of the documentation, by their names there.
FIGURES = {
    "attention": "attention/source_5_to_source_3_seed_1",
    "calibration": "calibration/source_5_to_source_3_seed_1",
    "confusion": "confusion/source_5_to_source_3_seed_1",
    "crops": "crops",
    "embedding": "embedding/source_5_to_source_3_seed_1",
    "gains": "gains/source_5_to_source_3_seed_1",
    "harmonisation": "harmonisation/source_5_to_source_8",
    "harmonised_crops": "harmonised_crops/source_5_to_source_8",
    "matrix": "matrix",
    "new_compounds": "new_compounds",
    "quality": "quality/source_5/ACPJUM90101_measures",
    "sites_lost": "sites_lost/source_3",
    "slopes": "slopes",
    "training": "training/source_5_seed_1",
}
FIGURE_WIDTH = 800  # pixels, or fewer where the file would have more bytes than `LARGEST`
LARGEST = 150_000
SETTLED = "new Promise(done => setTimeout(done, 3000))"  # maps say nowhere that they are drawn
# A crop of which the explorer knows where the network looks.
EXPLAINED = (
    "+Object.keys(JSON.parse(document.getElementById('facts').textContent).attention.crops).at(-1)"
)
COLOURS = 256  # a palette makes the files three times smaller
FEW_COLOURS = 24  # where they would still be too large


def take_screens(report: Path, folder: Path) -> None:
    """Write one PNG for each of `SCREENS`."""
    with open_browser() as browser:
        for name, (width, height), dark, heading in SCREENS:
            browser.open(report, width, height, dark=dark)
            if heading:
                browser.evaluate(
                    f"[...document.querySelectorAll('h2')].find(h => h.textContent == '{heading}').scrollIntoView()"
                )
            _save(browser.screenshot(), folder / f"{name}.png")
        explorer = report.with_name("explorer.html")
        if explorer.exists():
            browser.open(explorer, 1400, 950)
            browser.evaluate(SETTLED)
            browser.evaluate(f"explorer.hover([5]); explorer.pin({EXPLAINED})")
            browser.evaluate(SETTLED)
            _save(browser.screenshot(), folder / "explorer.png")


def copy_figures(results: Path, folder: Path) -> None:
    """Write a small copy of each of `FIGURES`."""
    folder.mkdir(exist_ok=True)
    for name, stem in FIGURES.items():
        content = (results / f"figures/{stem}.png").read_bytes()
        _save(content, folder / f"{name}.png", FIGURE_WIDTH)


def _save(content: bytes, path: Path, width: int | None = None) -> None:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    while True:
        small = picture.copy()
        if width:
            small.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
        for colours in (COLOURS, FEW_COLOURS):
            small.quantize(colours, kmeans=2).save(path, optimize=True)
            if not width or path.stat().st_size <= LARGEST:
                return
        width -= 100


if __name__ == "__main__":
    take_screens(Path(sys.argv[1]), Path(sys.argv[2]))
    copy_figures(Path(sys.argv[1]).parent, Path(sys.argv[2]) / "figures")
