"""Take the screenshots of the report and the explorer that the documentation shows, in Chromium.

python tools/screenshots.py results/demo/report.html docs/images
"""

import io
import sys
from pathlib import Path

from browser import open_browser
from PIL import Image

# Name, window size in CSS pixels, dark mode, heading to scroll to (None: top of the page).
SCREENS = [
    ("report", (1100, 760), False, None),
    ("report-data", (1100, 600), False, "Data"),
    ("report-phone", (390, 844), True, None),
]
SETTLED = "new Promise(done => setTimeout(done, 3000))"  # maps say nowhere that they are drawn
COLOURS = 256  # a palette makes the files three times smaller


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
            browser.evaluate("explorer.hover([5]); explorer.pin(700)")
            browser.evaluate(SETTLED)
            _save(browser.screenshot(), folder / "explorer.png")


def _save(content: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.quantize(COLOURS, kmeans=2).save(path, optimize=True)


if __name__ == "__main__":
    take_screens(Path(sys.argv[1]), Path(sys.argv[2]))
