"""The real Snakefile, run in a folder of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from coda.simulated_gallery import TABLES
from places import ROOT


def write_config(folder: Path, gallery: Path, endpoint: str) -> Path:
    """Write the tiny config for a gallery on an S3 server, with tables and results in place."""
    config = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
    del config["simulation"]
    config["results"] = "results"
    config["gallery"] = {
        "root": "s3://cellpainting-gallery/cpg0016-jump", "endpoint": endpoint, "attempts": 3, "timeout": 5
    }  # fmt: skip
    config["tables"] = {name: str(gallery / "tables" / file) for name, file in TABLES.items()}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def copy_run(run: Path, folder: Path) -> Path:
    """Copy a folder with the workflow and its results, so that there is nothing to be done in the copy either."""
    # Another process may be at work there, with a lock of Snakemake's.
    return Path(shutil.copytree(run, folder, ignore=shutil.ignore_patterns("locks")))


def snakemake_command(folder: Path, config: Path, *words: str) -> list[str]:
    """Run in `folder` the workflow that lies there, or else the project's."""
    workflow = folder if (folder / "Snakefile").exists() else ROOT
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(workflow / "Snakefile"), "--directory", str(folder),
        "--configfile", str(config), "--workflow-profile", str(ROOT / "profiles/cpu"), "--cores", "2", *words,
    ]  # fmt: skip


def rules_of(done: subprocess.CompletedProcess) -> set[str]:
    """Name the rules of which Snakemake ran jobs, or would."""
    return {
        line.split()[1].rstrip(":")
        for line in done.stdout.splitlines()
        if line.startswith(("rule ", "localrule ", "checkpoint "))
    }


def run_snakemake(
    folder: Path, config: Path, *words: str, check: bool = True
) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder` and give what it printed."""
    done = subprocess.run(
        snakemake_command(folder, config, *words),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    if check and done.returncode:
        pytest.fail(f"snakemake ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done
