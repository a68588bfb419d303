"""The report as a reader meets it, in a real Chromium."""

import pytest
from browser import find_chromium, open_browser

WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}
# Asked of the page: how wide it is beside its window, and what became of each picture.
LAYOUT = "[Math.max(document.documentElement.scrollWidth, innerWidth), document.images.length]"
BROKEN = "[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt)"
OUTSIDE = """[...document.querySelectorAll('p, img, h1, h2')].filter(
    part => part.getBoundingClientRect().right > innerWidth + 1).map(part => part.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize("window", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_report_opens_whole_and_without_a_fault(results, browser, window, dark):
    path = results / "report.html"
    width, height = WIDTHS[window]
    page = browser.open(path, width, height, dark=dark)
    assert page.faults == [] and page.requested == [path.as_uri()]
    figures = list((results / "figures").rglob("*.png"))
    # A strip of harmonised crops opens the report and stands among the figures too.
    assert browser.evaluate(LAYOUT) == [width, len(figures) + 1]
    assert browser.evaluate(BROKEN) == [] and browser.evaluate(OUTSIDE) == []


def test_links_of_the_contents_lead_to_their_parts(results, browser):
    browser.open(results / "report.html", *WIDTHS["desktop"])
    dead = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).map(a => a.hash)"
    assert browser.evaluate("document.querySelectorAll('nav a').length") >= 5
    assert browser.evaluate(dead) == []


def test_the_browser_notices_what_is_wrong(tmp_path, browser):
    """A page with every fault the tests above look for, so that they could fail."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><meta name=viewport content='width=device-width'><title>x</title>"
        "<img alt=gone src='gone.png'><div style='width: 3000px'>x</div>"
        "<script>console.error('said'); throw new Error('thrown')</script>"
    )
    page = browser.open(path, *WIDTHS["phone"])
    faults = " ".join(page.faults)
    assert "said" in faults and "Uncaught" in faults and "ERR_FILE_NOT_FOUND" in faults
    assert (tmp_path / "gone.png").as_uri() in page.requested
    assert browser.evaluate(LAYOUT)[0] > 390 and browser.evaluate(BROKEN) == ["gone"]
