"""The tutorial's commands, word for word and in their order, in a copy of the workflow."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

PAGE = (ROOT / "docs/tutorial.md").read_text()
CHANGED = "snakemake --configfile config/tiny.yaml mine.yaml --workflow-profile profiles/cpu"
BLOCKS = re.findall(r"(<!-- long: .*? -->\n)?```bash\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The files of the workflow as a newcomer gets them, with an environment already set up."""
    folder = tmp_path_factory.mktemp("tutorial") / "workflow"
    unwanted = shutil.ignore_patterns(".*", "results", "__pycache__", "tests", "benchmarks")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    return folder


@pytest.fixture(scope="module")
def told(copy) -> list[str]:
    """What each block said; steps marked as long are left out, the environment stands in for them."""
    said, before = [], ""
    for long, commands in BLOCKS:
        if long:
            said.append("")
            continue
        if commands.startswith(". "):
            before = commands  # each block runs in a shell of its own
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", before + commands],
            cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout[-4000:]}"
        said.append(done.stdout)
    return said


def said_by(told: list[str], start: str) -> str:
    """What the one block whose commands begin with `start` said."""
    (number,) = [number for number, (_, text) in enumerate(BLOCKS) if text.startswith(start)]
    return told[number]


def jobs(said: str) -> set[str]:
    """Rules in Snakemake's tables of jobs."""
    return set(re.findall(r"^(\w+) +\d+$", said, re.M)) - {"total"}


def test_the_run_gives_a_report_and_says_its_numbers(copy, told):
    assert "source 5" in said_by(told, "cat ")
    assert (copy / "results/tiny/report.html").stat().st_size > 100_000


def test_a_setting_makes_one_figure_again(told):
    changed = jobs(said_by(told, f"{CHANGED} -n"))
    assert changed == {"plot_crops", "write_report", "write_crate", "all"}


def test_changed_code_makes_what_uses_it_again(told):
    assert jobs(said_by(told, "sed ")) == {"plot_pair", "write_report", "write_crate", "all"}


def test_the_archive_lists_what_the_text_promises(told):
    listed = said_by(told, f"{CHANGED} archive")
    for name in ("report.html", "provenance/config.yaml", "provenance/machine.json", "manifests/"):
        assert name in listed


def test_no_long_step_hides_a_command_of_the_workflow():
    assert not [text for long, text in BLOCKS if long and "snakemake --" in text]
