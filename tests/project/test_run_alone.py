import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

TOOL = ROOT / "tools/run_alone.py"


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A folder that has sent jobs to Slurm, with a squeue that gives the answers of a test in turn."""
    (tmp_path / ".snakemake/slurm_logs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def says(*answers: str, status: int = 0) -> None:
        for number, answer in enumerate(answers):
            (tmp_path / f"answer{number}").write_text(answer)
        script = f"n=$(ls asked* 2>/dev/null | wc -l); touch asked$n; cat answer$n 2>/dev/null; exit {status}"
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)

    return says


def asked(folder: Path) -> int:
    return len(list(folder.glob("asked*")))


def test_jobs_of_a_killed_run_are_waited_for(squeue, tmp_path, capsys):
    mine = f"11|{tmp_path}|rule_extract_crops_wildcards_a|b\n"
    others = f"12|{tmp_path}/elsewhere|rule_extract_crops\n13|{tmp_path}|my own job\n"
    squeue(mine + others, mine + others, others)
    runpy.run_path(str(TOOL))["await_jobs"](pause=0.01)
    assert asked(tmp_path) == 3
    said = capsys.readouterr().err
    assert said.count("left 1 job(s) in Slurm") == 1 and "scancel 11\n" in said


def test_nobody_is_asked_in_a_folder_that_never_used_slurm(squeue, tmp_path):
    squeue("")
    (tmp_path / ".snakemake/slurm_logs").rmdir()
    runpy.run_path(str(TOOL))["await_jobs"]()
    assert asked(tmp_path) == 0


def test_nothing_starts_while_slurm_does_not_say_what_is_left(squeue, tmp_path):
    squeue("", status=1)
    command = [sys.executable, str(TOOL), "touch", "started"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Slurm does not say" in done.stderr
    assert not (tmp_path / "started").exists()
    squeue("")
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "started").exists()


def test_options_stand_before_the_targets():
    unlocking = runpy.run_path(str(TOOL))["unlocking"]
    command = ["snakemake", "--cores", "2", "--configfile", "a.yaml"]
    unlock = ["--unlock", "--quiet"]
    assert unlocking([*command, "--", "crops"]) == [*command, *unlock, "--", "crops"]
    assert unlocking(command) == [*command, *unlock]
