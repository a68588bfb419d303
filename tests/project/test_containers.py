"""The recipes of both containers: they copy what is there, all that a run needs, and install alike."""

import re

import yaml
from places import ROOT

OCI = (ROOT / "Containerfile").read_text()
APPTAINER = (ROOT / "apptainer.def").read_text()


def copied_by_oci() -> set[str]:
    lines = [line.split()[1:-1] for line in OCI.splitlines() if line.startswith("COPY ")]
    return {name for line in lines for name in line}


def copied_by_apptainer() -> set[str]:
    section = APPTAINER.split("%files\n")[1].split("\n%")[0]
    return {line.split()[0] for line in section.splitlines() if line.strip()}


def test_both_copy_the_same_files_and_they_are_there():
    assert copied_by_oci() == copied_by_apptainer()
    for name in copied_by_oci():
        assert (ROOT / name).exists(), name


def test_all_that_a_run_reads_is_copied():
    needed = {"Snakefile", "rules", "scripts", "report", "config", "profiles", "pyproject.toml"}
    rule = re.search(r"^\$\(VENV\)/run: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    setup = {word.removeprefix("$(VENV)/") for word in rule.split()}
    assert needed | setup <= copied_by_oci()


def test_both_install_as_make_setup_does_on_a_python_that_fits():
    for recipe in (OCI, APPTAINER):
        assert "make setup TORCH=cuda" in recipe  # the machine that builds it may have no GPU
        assert "pip install" not in recipe
        assert re.search(r"^(?:FROM|From:) python:3\.(\d+)-slim$", recipe, re.M)[1] == "11"
        assert "snakemake" in recipe and "/opt/coda/Snakefile" in recipe


def test_the_page_names_files_of_the_image():
    page = (ROOT / "docs/containers.md").read_text()
    for name in re.findall(r"/opt/coda/([\w./]+)", page):
        assert (ROOT / name).exists() and name.split("/")[0] in copied_by_oci()


def test_hooks_run_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]  # nothing is fetched
    entries = " ".join(hook["entry"] for repo in hooks for hook in repo["hooks"])
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    for words in re.findall(r"\$\(BIN\)/(\w+ (?:check|format|--lint)?)", lint):
        assert words.strip() in entries, words
    for path in re.findall(r"tests/\S+\.py", entries):
        assert (ROOT / path).exists()
