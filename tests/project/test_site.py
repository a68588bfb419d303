"""The documentation as a site: it builds, its links lead somewhere, and a browser shows it without a fault."""

import subprocess
import sys

import pytest
from browser import find_chromium, open_browser
from places import ROOT

# Waits until the page's diagram is drawn, which the theme does in a shadow of its own.
DRAWN = """new Promise((done) => {
    const began = Date.now(), look = () => {
        const drawn = !document.querySelector("pre.mermaid") && document.querySelector("div.mermaid");
        drawn || Date.now() - began > 20000 ? done(Boolean(drawn)) : setTimeout(look, 100);
    };
    look();
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_the_documentation_is_on_the_site(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").exists(), page
    figures = (site / "figures.html").read_text()
    assert all(
        f'id="{path.stem}"' in figures.replace("-", "_")
        for path in (ROOT / "report").glob("[!r]*.rst")
    )
    library = (site / "library.html").read_text()
    assert 'id="coda.training.dino.dino_loss"' in library and "Parameters" in library


def test_a_dead_link_fails_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[gone](gone.md)")
    settings = "strict: true\nsite_name: x\nvalidation: {anchors: warn, unrecognized_links: warn}\n"
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode != 0 and "gone.md" in done.stderr


def test_a_browser_shows_the_site_without_a_fault(site):
    if find_chromium() is None or not (ROOT / "node_modules/iframe-worker").exists():
        pytest.skip(
            "no Chromium (Debian: apt-get install chromium) or no node_modules (make node_modules)"
        )
    with open_browser() as browser:
        for path in sorted(site.glob("[!4]*.html")):
            for dark in (False, True):
                page = browser.open(path, 1280, 800, dark=dark)
                assert page.faults == [], path.name
                assert all(url.startswith("file:") for url in page.requested), path.name
        browser.open(site / "rulegraph.html", 1280, 800)
        assert browser.evaluate(DRAWN), "the diagram is not drawn"
