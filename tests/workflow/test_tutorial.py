"""What the tutorial's commands do: the first made the finished run, the others follow in a copy of it."""

import json
import re
from pathlib import Path

import pytest
from tutorial import ACTIVATE, BLOCKS, COMMANDS, RUN, follow
from workflow_run import copy_run

CHANGED = "snakemake --configfile config/tiny.yaml mine.yaml --workflow-profile profiles/cpu"


@pytest.fixture(scope="module")
def copy(finished, tmp_path_factory) -> Path:
    return copy_run(finished[0], tmp_path_factory.mktemp("tutorial") / "workflow")


@pytest.fixture(scope="module")
def told(copy) -> list[str]:
    """What each block said."""
    return json.loads((copy / "said.json").read_text()) + follow(copy, BLOCKS[RUN:])


def said_by(told: list[str], start: str) -> str:
    """What the one block whose commands begin with `start` said."""
    (number,) = [number for number, text in enumerate(COMMANDS) if text.startswith(start)]
    return told[number]


def jobs(said: str) -> set[str]:
    """Rules in Snakemake's tables of jobs."""
    return set(re.findall(r"^(\w+) +\d+$", said, re.M)) - {"total"}


def test_the_environment_is_activated_before_the_first_command_of_the_workflow():
    first = next(number for number, text in enumerate(COMMANDS) if text.startswith("snakemake"))
    assert ACTIVATE in COMMANDS[:first]


def test_a_dry_run_lists_the_first_jobs(told):
    assert "select_plates" in jobs(told[RUN - 2]) and "write_report" in jobs(told[RUN - 2])


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
