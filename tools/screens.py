"""Take the README's pictures of the report in a real browser.

python tools/screens.py results/demo/report.html docs/images
"""

import io
import sys
from pathlib import Path

from browser import open_browser
from PIL import Image

# Name, window in CSS pixels, dark or not, the heading to scroll to (none: the top).
SCREENS = [
    ("report", (1100, 760), False, None),
    ("report-data", (1100, 600), False, "Data"),
    ("report-phone", (390, 844), True, None),
]
COLOURS = 256  # of the palette: a third of the bytes


def take_screens(report: Path, folder: Path) -> None:
    """Write a picture of each of `SCREENS`."""
    with open_browser() as browser:
        for name, (width, height), dark, heading in SCREENS:
            browser.open(report, width, height, dark=dark)
            if heading:
                browser.evaluate(
                    f"[...document.querySelectorAll('h2')].find(h => h.textContent == '{heading}').scrollIntoView()"
                )
            picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
            picture.quantize(COLOURS, kmeans=2).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    take_screens(Path(sys.argv[1]), Path(sys.argv[2]))
