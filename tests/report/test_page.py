"""Words and the HTML file: they say what the numbers say, and the page stands by itself."""

import base64
import io
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.evaluation.scores import score_predictions
from coda.report.findings import findings
from coda.report.page import INSIDE, Front, Section, settings_table, versions_table, write_report
from coda.report.plate_by_plate import PlateTable, Share
from coda.report.tables import accuracy_frame, accuracy_table
from pages import PIXEL, Page
from PIL import Image
from predictions import SKILL, write_world


def world(folder, **skill):
    files, plates = write_world(folder, skill=SKILL | skill)
    return score_predictions(files, plates, replicates=200).summary


def test_findings_tell_a_success_and_its_size(tmp_path):
    summary = world(tmp_path, unadapted=0.0, intensity=0.0)
    said = findings(summary)
    text = " ".join(said)
    assert text.count("on these compounds adaptation helped") == 2
    wanted = {"train_source": "all", "method": "coda", "metric": "accuracy", "split": "held_out"}
    row = summary[
        (summary[list(wanted)] == pd.Series(wanted)).all(axis=1) & (summary["level"] == "image")
    ]
    assert f"On held-out plates, CODA reached {100 * row['value'].item():.1f} %" in text
    assert "Changing the source cost" in text
    assert "is close to Unadapted" in text
    assert not re.search(r"nan|None", text)


def test_findings_tell_a_failure_as_plainly(tmp_path):
    no_help = " ".join(findings(world(tmp_path / "a", unadapted=1.0, coda=1.0)))
    assert "does not show that adaptation helps" in no_help
    harm = " ".join(findings(world(tmp_path / "b", unadapted=2.0, coda=0.0, intensity=2.0)))
    assert harm.count("made it worse") == 2
    assert "It is above ODA (no partners); CODA. It is close to Unadapted." in harm
    no_gap = " ".join(findings(world(tmp_path / "c", in_domain=1.0)))
    assert "no clear gap" in no_gap


def test_terminal_table_holds_every_pair_and_fits(tmp_path):
    summary = world(tmp_path)
    text = accuracy_table(summary)
    assert "Adapted plates" in text and "Held-out plate" in text
    shown = "metric == 'accuracy' and level == 'image' and (split != 'validation' or method == 'in_domain')"
    assert max(map(len, text.splitlines())) <= 125
    for row in summary.query(shown).itertuples():
        assert f"{row.value:.3f}" in text
        if np.isfinite(row.low):
            assert f"{row.low:.3f}-{row.high:.3f}" in text
    assert text.count("mean of   2 pairs") == 2


def test_page_is_valid_and_stands_alone(tmp_path):
    figure = tmp_path / "figure.png"
    figure.write_bytes(PIXEL)
    table = pd.DataFrame({"what": ["a <b> & c", None], "value": [0.123456, np.nan], "n": [1, 2000]})
    sections = [
        Section(
            "Results",
            "First.\n\nSecond <script>.",
            [(figure, 'Bars of "all" methods')],
            [(table, "Numbers")],
        ),
        Section("Settings", tables=[(versions_table(), "Versions")]),
    ]
    write_report(tmp_path / "report.html", "Title & more", ["One.", "Two."], ["A trap."], sections)
    html = (tmp_path / "report.html").read_text()
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert "a &lt;b&gt; &amp; c" in html and "<script" not in html
    assert "nan" not in html.lower().replace("nano", "") and "None" not in html
    assert "0.1235" in html
    for tag, attributes in page.seen:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        if tag == "img":
            assert attributes["alt"] == 'Bars of "all" methods'
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert sorted(page.ids) == ["part-1", "part-2", "worry"]
    linked = [attributes["href"][1:] for tag, attributes in page.seen if tag == "a"]
    assert linked == page.ids
    assert [tag for tag, _ in page.seen].count("caption") == 2


def test_report_refuses_missing_figures_and_leaves_nothing(tmp_path):
    for name, message in (("absent.png", "absent.png"), ("figure.pdf", "figure.pdf")):
        with pytest.raises(UserError, match=message):
            write_report(
                tmp_path / "report.html",
                "T",
                [],
                [],
                [Section("A", figures=[(tmp_path / name, "c")])],
            )
    assert list(tmp_path.iterdir()) == []


def test_a_picture_taller_than_webp_allows_is_made_smaller(tmp_path):
    Image.new("RGB", (1000, 20_000), "white").save(tmp_path / "tall.png")
    sections = [Section("A", figures=[(tmp_path / "tall.png", "c")])]
    write_report(tmp_path / "report.html", "T", [], [], sections)
    content = re.search(r"base64,([^\"]*)", (tmp_path / "report.html").read_text())[1]
    with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
        assert shown.height == 16_383 and shown.width == round(1000 * 16_383 / 20_000) < 850


def test_a_picture_as_tall_as_a_page_is_narrower(tmp_path):
    for name, size in (("wide", (2200, 2000)), ("page", (2200, 3600))):
        Image.new("RGB", size, "white").save(tmp_path / f"{name}.png")
    sections = [
        Section("A", figures=[(tmp_path / f"{name}.png", "c") for name in ("wide", "page")])
    ]
    write_report(tmp_path / "report.html", "T", [], [], sections)
    found = re.findall(r"base64,([^\"]*)", (tmp_path / "report.html").read_text())
    sizes = [Image.open(io.BytesIO(base64.b64decode(content))).size for content in found]
    assert sizes == [(1100, 1000), (850, 1391)]


def test_pictures_of_more_pairs_than_a_page_holds_are_linked(tmp_path):
    figures = [tmp_path / f"figures/gains/pair #{number}.png" for number in range(INSIDE + 8)]
    figures[0].parent.mkdir(parents=True)
    for figure in figures:
        figure.write_bytes(PIXEL)
    folded = {figure.stem: [(figure, "c")] for figure in figures}
    write_report(tmp_path / "report.html", "T", [], [], [Section("A", folded=folded)])
    html = (tmp_path / "report.html").read_text()
    page = Page(html)
    assert sum(tag == "img" for tag, _ in page.seen) == INSIDE
    linked = [attributes["href"] for tag, attributes in page.seen if tag == "a"]
    assert [tmp_path / unquote(name) for name in linked if name[0] != "#"] == figures[INSIDE:]
    assert f"the first {INSIDE} of {INSIDE + 8} stand in this file" in html
    figures[-1].unlink()
    with pytest.raises(UserError, match="no such file"):
        write_report(tmp_path / "report.html", "T", [], [], [Section("A", folded=folded)])


def test_settings_are_flat():
    table = settings_table(
        {"adapt": {"epochs": 3, "views": {"sizes": [224, 96]}}, "seed": 1, "paths": {}}
    )
    assert dict(table.itertuples(index=False)) == {
        "adapt.epochs": "3",
        "adapt.views.sizes": "224, 96",
        "seed": "1",
        "paths": "{}",
    }


def test_frame_has_the_mean_last_and_no_placeholder(tmp_path):
    frame = accuracy_frame(world(tmp_path), "held_out")
    assert frame["train"].tolist() == ["source 1", "source 2", "mean of"]
    assert list(frame.columns)[-3:] == ["Gap closed by CODA", "Constant guess", "n"]
    assert not frame.isin(["nan", "None"]).any(axis=None)


def test_the_table_of_plates_has_bars_as_long_as_its_shares(tmp_path):
    rows = [
        ("H", "source 5, at home", "held out", [Share(70.0, "60 to 80"), None]),
        ("A", "source 3", "adapted to", [Share(20.5, ""), Share(40.0, "35 to 45")]),
    ]
    plates = PlateTable("Range.", "Shares.", ["as it is", "CODA"], rows)
    write_report(tmp_path / "r.html", "T", [], [], [], Front(plates=plates))
    page = Page((tmp_path / "r.html").read_text())
    bars = [given["style"] for tag, given in page.seen if tag == "td" and "style" in given]
    assert bars == ["--share: 70.0%", "--share: 20.5%", "--share: 40.0%"]
    assert "Range." in (tmp_path / "r.html").read_text()
