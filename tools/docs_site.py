"""What MkDocs does besides to make a site of the documentation: a hook of mkdocs.yml.

The pages that lie beside what they describe, such as config/README.md, become pages of the site, and links between all
pages lead to where they are there. The page on figures is made of
their captions in the report.
"""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# What lies outside docs/, and its name on the site.
PAGES = {
    "README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "config/README.md": "config.md", "benchmarks/README.md": "benchmarks.md", "CITATION.cff": "CITATION.cff",
}  # fmt: skip
# What the theme loads from elsewhere where npm has not brought it: diagrams, and the search on pages from the disk.
MODULES = ROOT / "node_modules"
DIAGRAMS = MODULES / "@mermaid-js/tiny/dist/mermaid.tiny.js"
WORKERS, WORKERS_ELSEWHERE = (
    MODULES / "iframe-worker/shim/index.js",
    "https://unpkg.com/iframe-worker/shim",
)
FIGURES = """# How to read the figures

These are the captions of the report, in alphabetical order, with the figures of the demo. Every figure is also in the
folder `figures/` of the results, as PDF and PNG, with its data as CSV.
"""


def on_files(files, config):
    """Add the pages that are not in docs/."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    files.append(File.generated(config, "figures.md", content=figures_page()))
    for script in filter(Path.exists, (DIAGRAMS, WORKERS)):
        files.append(File.generated(config, script_path(script), abs_src_path=str(script)))
    if DIAGRAMS.exists():
        config.extra_javascript.append(script_path(DIAGRAMS))
    return files


def on_page_markdown(markdown, page, **_):
    """Let the links of a page lead to pages of the site."""
    homes = {name: source for source, name in PAGES.items()}
    home = homes.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return re.sub(
        r"(\]\()([^):#\s]+)((?:#[^)\s]*)?\))", lambda link: link[1] + site_path(link[2], home) + link[3], markdown
    )  # fmt: skip


def on_post_page(output, **_):
    """Take the search's script from the site itself."""
    return output.replace(WORKERS_ELSEWHERE, script_path(WORKERS)) if WORKERS.exists() else output


def script_path(script: Path) -> str:
    """Give the path on the site of a script that npm has brought."""
    return f"assets/{script.relative_to(MODULES).as_posix().removeprefix('@')}"


def site_path(target: str, home: str) -> str:
    """Give the path on the site of what a page of the repository links to.

    Parameters
    ----------
    target : str
        The link, relative to the page.
    home : str
        The page, relative to the repository.
    """
    path = os.path.normpath(os.path.join(os.path.dirname(home), target))
    if os.path.isdir(ROOT / path):
        path = os.path.join(path, "README.md")
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return target


def figures_page() -> str:
    """Write the page on figures and tables from their captions in the report."""
    parts = [FIGURES]
    for path in sorted((ROOT / "report").glob("*.rst")):
        if path.stem != "report":
            title = path.stem.replace("_", " ").capitalize()
            parts.append(f"## {title}\n\n{_picture(path.stem, title)}{path.read_text()}")
    return "\n".join(parts)


def _picture(stem: str, title: str) -> str:
    """Show the figure, as the demo draws it, where the documentation has a picture of it."""
    for folder in ("images/figures", "images"):
        if (ROOT / f"docs/{folder}/{stem}.png").exists():
            return f"![{title}]({folder}/{stem}.png)\n\n"
    return ""
