"""The page for the bench: what it shows is what the tables say, and it works in a real browser."""

import base64
import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from coda.crops.store import CropStore, CropWriter
from coda.predict.bench_report import (
    rounded,
    says_anything,
    unusable_sites,
    write_bench_report,
)
from coda.predict.crop_panels import crop_panels
from coda.predict.pack import thumbnails
from coda.predict.plate_maps import ABSTAINS, CONTROL, OTHER, PALETTE, mixed, plate_maps
from pages import Page
from PIL import Image

CHANNELS = ["DNA", "ER"]
ODD = '=x "7", <b>new</b>'  # a name with everything that a page, a CSV or a spreadsheet could take for its own
SIDE = 16


def make_store(path, wells, brightness):
    """Two crops a well, each channel of one grey value by its compound, with a bright corner."""
    with CropWriter(path, CHANNELS, SIDE, SIDE, {"um_per_pixel": 0.6}) as writer:
        for plate, well, compound, kind in wells:
            pixels = np.full((2, 2, SIDE, SIDE), brightness[compound], np.uint8)
            pixels[:, :, :4, :4] = 200
            metadata = {
                "Metadata_Source": "lab", "Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": 1,
                "Metadata_JCP2022": compound, "Metadata_pert_iname": compound, "Metadata_pert_type": kind,
                "Metadata_moa": None, "Quality_ok": True,
            }  # fmt: skip
            writer.write(metadata, pixels)
    return CropStore([path])


@pytest.fixture
def store(tmp_path):
    wells = [
        ("P1", "B02", ODD, "trt"), ("P2", "B02", ODD, "trt"), ("P1", "B03", "quiet", "trt"),
        ("P1", "C02", "DMSO", "negcon"), ("P2", "C02", "DMSO", "negcon"), ("P3", "C02", "DMSO", "negcon"),
    ]  # fmt: skip
    return make_store(tmp_path / "own.arrow", wells, {ODD: 100, "quiet": 60, "DMSO": 50})


@pytest.fixture
def known(tmp_path):
    wells = [("H1", "D04", "taxol", "trt"), ("H1", "D05", "DMSO", "negcon")]
    return thumbnails(make_store(tmp_path / "home.arrow", wells, {"taxol": 90, "DMSO": 40}))


def make_calls():
    """Three compounds, one of which abstains, and their wells."""
    common = {
        "coverage": 0.9,
        "plates": 1,
        "flagged_sites": 0,
        "nearest_compound": "taxol",
        "nearest_moa": "tubulin",
    }
    rows = [
        {"level": "compound", "Metadata_JCP2022": name, "call": call, "probability_1": sure, "wells": wells,
         "agreement": agreement, "abstains": "" if call else "no mechanism fits"}
        for name, call, sure, wells, agreement in (
            (ODD, "tubulin", 0.91, 2, 1.0), ("middle", "kinase", 0.6, 10, 0.5), ("quiet", "", 0.2, 1, None)
        )
    ]  # fmt: skip
    rows.append(
        {"level": "compound", "Metadata_JCP2022": "gone", "call": "", "probability_1": np.nan, "wells": 0,
         "abstains": "no usable site", "nearest_compound": None}
    )  # fmt: skip
    places = [
        ("P2", "B03", "gone", "trt", "", np.nan), ("P1", "B02", ODD, "trt", "tubulin", 0.9),
        ("P2", "B02", ODD, "trt", "tubulin", 0.8), ("P1", "B03", "quiet", "trt", "", 0.2),
        ("P1", "C02", "DMSO", "negcon", "kinase", 0.3),
    ]  # fmt: skip
    for plate, well, compound, kind, call, sure in places:
        why = "" if call else "no usable site" if np.isnan(sure) else "no mechanism fits"
        rows.append(
            {"level": "well", "Metadata_JCP2022": compound, "call": call, "probability_1": sure, "wells": 1,
             "Metadata_Source": "lab", "Metadata_Plate": plate, "Metadata_Well": well, "Metadata_pert_type": kind,
             "abstains": why}
        )  # fmt: skip
    table = pd.DataFrame(
        [common | {"moa_1": "tubulin", "set": "tubulin", "sites": 2} | row for row in rows]
    )
    return table


@pytest.fixture
def page(tmp_path, store, known):
    trust = pd.DataFrame(
        {"use": [False, True], "reason": ["no", "Replicates agree more than before."]}
    )
    doubts = ["12 images are <copies>."]
    write_bench_report(tmp_path / "calls.html", make_calls(), trust, store, known, doubts)
    return tmp_path / "calls.html"


def greys(panel, channel):
    """The grey values of a channel's row in a panel, in the middle of each crop."""
    data = base64.b64decode(panel.url.partition(",")[2])
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    across = (image.shape[1] + 2) // (SIDE + 2)
    assert panel.width == pytest.approx(72 / SIDE * image.shape[1])
    row = (1 + CHANNELS.index(channel)) * (SIDE + 2) + SIDE // 2
    return [image[row, crop * (SIDE + 2) + SIDE // 2].mean() for crop in range(across)]


def test_all_crops_of_a_compound_are_on_one_contrast(store, known):
    """By the grey values that were drawn: their order across labs and wells stays, equal ones stay equal."""
    own, controls, near, home = crop_panels(ODD, "taxol", store, known)
    assert [len(greys(panel, "ER")) for panel in (own, controls, near, home)] == [4, 4, 2, 2]
    for channel in CHANNELS:
        drawn = [greys(panel, channel) for panel in (own, near, controls, home)]
        assert all(max(values) - min(values) <= 3 for values in drawn)
        means = [np.mean(values) for values in drawn]
        assert means == sorted(means, reverse=True) and means[0] - means[3] > 60
        # 100, 90, 50 and 40 of 40 to 200, whatever the compression lost
        assert (means[0] - means[1]) / (means[0] - means[2]) == pytest.approx(10 / 50, abs=0.08)


def test_controls_are_those_of_the_compounds_plates(store, known):
    own, controls, near, _ = crop_panels(ODD, "taxol", store, known)
    assert own.shown.startswith("P1 B02, P2 B02") and "P3" not in controls.shown
    assert near.shown == "H1 D04, H1 D04"
    _, none, gone, _ = crop_panels("nothing", "unknown", store, known)
    assert none.url is None and gone.url is None and "The pack has no crops of it" in gone.shown


def test_maps_have_the_colours_of_calls_and_their_wells():
    calls = make_calls()
    first, second = plate_maps(calls[calls["level"] == "well"])
    assert first.name == "lab P1" and (len(first.rows), len(first.columns)) == (8, 12)
    colours = {(well.row, well.column): well.by_call for well in first.wells}
    assert colours == {(1, 1): PALETTE[0], (1, 2): ABSTAINS, (2, 1): CONTROL}
    gone, good = second.wells
    assert good.by_confidence == mixed(0.8)
    assert gone.by_confidence == ABSTAINS and gone.words == "B03: gone, no call (no usable site)"
    assert OTHER not in colours.values()
    assert f"B02: {ODD}, tubulin" in first.wells[0].words
    shades = [int(mixed(share)[1:3], 16) for share in np.linspace(0, 1, 9)]
    assert shades == sorted(shades, reverse=True) and mixed(2.0) == mixed(1.0)


def test_the_page_nests_and_quotes_names(page):
    html = page.read_text()
    assert "<b>new</b>" not in html and "Replicates agree more than before." in html
    assert "2 of 4 compound(s) have a call" in html
    assert (
        "<strong>agreement</strong>" in html and "<strong>novelty</strong>" not in html
    )  # as its columns
    assert "Check the inputs:</strong> 12 images are &lt;copies&gt;." in html
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    read = Page(re.sub(r"<input[^>]*>|<br>|<rect[^>]*/>", "", markup))
    assert len(read.ids) == len(set(read.ids))


def test_numbers_near_0_and_1_are_not_rounded_to_certainty():
    assert [rounded(value, 2) for value in (0.9999, 1.0, 0.994, 0.001, 0.0)] == [
        ">0.99", "1.00", "0.99", "<0.01", "0.00",
    ]  # fmt: skip
    assert rounded(0.0002, 3) == "<0.001" and rounded(12, 0) == "12"


def test_most_sites_out_of_use_put_the_calls_in_doubt():
    """As where the channels are swapped: the nuclei of most sites are not found."""
    compounds = pd.DataFrame({"sites": [3, 6], "flagged_sites": [4, 4], "lost_sites": [0, 1]})
    assert not unusable_sites(compounds)
    (doubt,) = unusable_sites(compounds.assign(lost_sites=[0, 2]))
    assert doubt.startswith("53 % of the sites") and "swapped" in doubt


def test_columns_that_say_nothing_are_left_out():
    calls = make_calls()
    compounds = calls[calls["level"] == "compound"]
    assert says_anything(compounds, "moa_1") and says_anything(compounds, "abstains")
    called = compounds[compounds["call"] != ""].assign(
        moa_1=lambda rows: rows["call"], agreement=None
    )
    assert not any(
        says_anything(called, name) for name in ("moa_1", "abstains", "agreement", "none")
    )


SHOWN = "[...document.querySelectorAll('#calls tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"


def test_the_table_sorts_filters_and_saves_what_is_shown(page, browser):
    opened = browser.open(page, 1280, 900)
    assert opened.faults == [] and opened.requested == [page.as_uri()]
    assert browser.evaluate(SHOWN) == [ODD, "middle", "quiet", "gone"]
    click = (
        "[...document.querySelectorAll('thead button')].find(b => b.textContent === '{}').click()"
    )
    browser.evaluate(click.format("wells"))
    assert browser.evaluate(SHOWN) == ["middle", ODD, "quiet", "gone"]  # 10 before 2, by number
    browser.evaluate(click.format("agreement"))
    browser.evaluate(click.format("agreement"))
    # Ascending; the empty ones last.
    assert browser.evaluate(SHOWN) == ["middle", ODD, "quiet", "gone"]
    browser.evaluate(click.format("compound"))
    assert browser.evaluate(SHOWN) == [ODD, "gone", "middle", "quiet"]
    browser.evaluate("document.getElementById('only-called').click()")
    assert browser.evaluate(SHOWN) == [ODD, "middle"]
    browser.evaluate(
        "search.value = 'TUBULIN new'; search.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert browser.evaluate(SHOWN) == [ODD]
    assert browser.evaluate("document.getElementById('count').textContent") == "1 of 4 compounds"
    saved = browser.evaluate(
        "(async () => { let blob; URL.createObjectURL = b => { blob = b; return '#'; };"
        "document.getElementById('export').click(); return [...new Uint8Array(await blob.arrayBuffer())]; })()"
    )
    heading, row = csv.reader(io.StringIO(bytes(saved).decode("utf-8-sig"), newline=""))
    table = dict(zip(heading, row, strict=True))
    assert (table["compound"], table["call"], table["probability"]) == (
        "'" + ODD,
        "tubulin",
        "0.91",
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_shows_all_pictures(page, browser, width):
    opened = browser.open(page, width, 844)
    assert opened.faults == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
    assert browser.evaluate(broken) == 0 and browser.evaluate("document.images.length") == 4 + 2 + 4
