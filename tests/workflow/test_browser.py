"""The report as a reader meets it, in a real Chromium."""

import pandas as pd
import pytest
from places import ROOT

WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}
# Asked of the page: how wide it is beside its window, and what became of each picture.
LAYOUT = "[Math.max(document.documentElement.scrollWidth, innerWidth), document.images.length]"
BROKEN = "[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt)"
OUTSIDE = """[...document.querySelectorAll('p, img, h1, h2')].filter(
    part => part.getBoundingClientRect().right > innerWidth + 1).map(part => part.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("window", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_report_opens_whole_and_without_a_fault(results, browser, window, dark):
    path = results / "report.html"
    width, height = WIDTHS[window]
    page = browser.open(path, width, height, dark=dark)
    assert page.faults == [] and page.requested == [path.as_uri()]
    figures = list((results / "figures").rglob("*.png"))
    # Of sources that lost no site there is no map.
    lost = pd.concat(pd.read_parquet(path) for path in (results / "quality").rglob("*.parquet"))
    lost = set(lost.loc[lost["status"] != "ok", "Metadata_Source"])
    figures = [path for path in figures if path.parent.name != "sites_lost" or path.stem in lost]
    # Accuracies and a strip of harmonised crops open the report and stand among the figures too.
    assert browser.evaluate(LAYOUT) == [width, len(figures) + 2]
    assert browser.evaluate(BROKEN) == [] and browser.evaluate(OUTSIDE) == []


def test_links_of_the_contents_lead_to_their_parts(results, browser):
    browser.open(results / "report.html", *WIDTHS["desktop"])
    links = "[...document.querySelectorAll('nav a:not([href$=html])')]"
    dead = f"{links}.filter(a => !document.querySelector(a.hash)).map(a => a.hash)"
    assert browser.evaluate("document.querySelectorAll('nav a').length") >= 5
    assert browser.evaluate(dead) == []


@pytest.mark.parametrize("name", ["report", "explorer"])
def test_pages_are_accessible(results, browser, name):
    """As far as axe-core tells: contrast, names, landmarks, tables."""
    axe = ROOT / "node_modules/axe-core/axe.min.js"
    if not axe.exists():
        pytest.skip("axe-core is not there (npm ci)")
    for dark in (False, True):
        browser.open(results / f"{name}.html", *WIDTHS["desktop"], dark=dark)
        if name == "explorer":
            browser.evaluate(STARTED)
        browser.evaluate(axe.read_text() + "; 0")
        found = browser.evaluate(
            "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html.slice(0, 200)))"
        )
        assert found == []


# Asked of the explorer: that it has started, where its first crop lies on the screen, and whether a picture is drawn.
STARTED = """new Promise(done => {
    const look = () => document.getElementById('count').textContent ? done(1) : setTimeout(look, 50);
    look();
})"""
DRAWN = "new Promise(done => setTimeout(done, 3000))"  # maps say nowhere that they are
TOLD = """new Promise(done => {
    const words = document.getElementById('%sWords');
    const look = () => words.textContent.includes('Call after') ? done(1) : setTimeout(look, 50);
    look();
})"""
PLACE = """(() => {
    const model = name => Bokeh.documents[0].get_model_by_name(name), crops = model('crops').data;
    const view = Bokeh.index.find_one(model('map_after')), box = view.el.getBoundingClientRect();
    return [box.x + view.frame.x_scale.compute(crops.x_after[0]), box.y + view.frame.y_scale.compute(crops.y_after[0])];
})()"""
LIT = """(part => {
    const pen = document.getElementById(part).getContext('2d');
    return pen.getImageData(0, 0, 160, 160).data.some((value, place) => place % 4 < 3 && value > 60);
})"""
FIRST_LAB = """(() => {
    const choice = Bokeh.documents[0].get_model_by_name('only_lab');
    choice.value = choice.options[1];
})()"""


def test_the_explorer_shows_pins_and_filters(results, browser):
    def text(part):
        return browser.evaluate(f"document.getElementById('{part}').textContent")

    path = results / "explorer.html"
    page = browser.open(path, 1400, 950)
    browser.evaluate(STARTED)
    total = browser.evaluate("Bokeh.documents[0].get_model_by_name('crops').data.well.length")
    assert text("count").startswith(f"{total:,} of {total:,} crops")
    browser.evaluate(DRAWN)
    x, y = browser.evaluate(PLACE)
    for kind, button in (
        ("mouseMoved", "none"),
        ("mousePressed", "left"),
        ("mouseReleased", "left"),
    ):
        browser.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            clickCount=int(button == "left"),
        )
    for part in ("hovered", "pinned"):
        browser.evaluate(TOLD % part)
        assert browser.evaluate(f"{LIT}('{part}')")
    assert browser.evaluate("document.querySelectorAll('#near button').length") >= 1
    looked_at = (
        "Object.keys(JSON.parse(document.getElementById('facts').textContent).attention.crops)"
    )
    browser.evaluate(f"explorer.pin(+{looked_at}.at(-1))")
    assert browser.evaluate("document.querySelectorAll('#looks canvas').length") >= 1
    channels = "JSON.parse(document.getElementById('facts').textContent).attention.channels.length"
    rows = "document.querySelector('#looks table').rows.length"
    assert browser.evaluate(f"{rows} === {channels}")
    browser.evaluate(FIRST_LAB)
    assert 0 < int(text("count").split()[0].replace(",", "")) < total
    for colouring in ("lab", "plate", "confidence", "quality", "right or wrong"):
        browser.evaluate(f"Bokeh.documents[0].get_model_by_name('colouring').value = '{colouring}'")
        assert browser.evaluate("document.querySelectorAll('#legend span').length") >= 2
    # Without a GPU, Chromium itself remarks that it draws WebGL in software.
    assert [fault for fault in page.faults if "WebGL" not in fault] == []
    assert page.requested == [path.as_uri()]
    # This browser has no graphics card, so the points are drawn on a plain canvas.
    assert browser.evaluate("document.createElement('canvas').getContext('webgl')") is None


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_explorer_fits_a_phone_and_its_text_is_seen(results, browser, dark):
    browser.open(results / "explorer.html", *WIDTHS["phone"], dark=dark)
    browser.evaluate(STARTED)
    browser.evaluate("explorer.pin(0)")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    # Axes and titles are drawn on a canvas, where axe-core does not look.
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = browser.evaluate("Bokeh.documents[0].get_model_by_name('plate').title.text_color")
    wanted = ("rgb(20, 23, 26)", "#e8e8e8") if dark else ("rgb(255, 255, 255)", "#1a1a1a")
    assert (ground, ink) == wanted


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
