"""The real Snakefile on a tiny simulated gallery, served by a real S3 server."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from coda.config import SIMULATED_TABLES

ROOT = Path(__file__).parents[2]


def write_config(folder: Path, gallery: Path, endpoint: str) -> Path:
    """Write the tiny config for a gallery on an S3 server, with tables and results in place."""
    config = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
    del config["simulation"]
    config["results"] = "results"
    config["gallery"] = {
        "root": "s3://cellpainting-gallery/cpg0016-jump", "endpoint": endpoint, "attempts": 3, "timeout": 5
    }  # fmt: skip
    config["tables"] = {
        name: str(gallery / "tables" / file) for name, file in SIMULATED_TABLES.items()
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def snakemake_command(
    folder: Path, config: Path, *words: str, snakefile: Path = ROOT / "Snakefile"
) -> list[str]:
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder),
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
    folder: Path, config: Path, *words: str, check: bool = True, **where: Path
) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder` and give what it printed."""
    done = subprocess.run(
        snakemake_command(folder, config, *words, **where),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    if check and done.returncode:
        pytest.fail(f"snakemake ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done


@pytest.fixture(scope="session")
def gallery(tmp_path_factory) -> Path:
    """A tiny simulated gallery with its tables."""
    from coda.simulation.plates import simulate_gallery

    folder = tmp_path_factory.mktemp("gallery")
    settings = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())["simulation"]
    seed = settings.pop("seed")
    simulate_gallery(folder, {**settings, "effect": [1.6, 3.2], "nuclei": True}, seed)
    return folder


@pytest.fixture(scope="session")
def endpoint(gallery) -> str:
    """The gallery on a real S3 server."""
    from s3_server import s3_server

    with s3_server(gallery) as address:
        yield address


@pytest.fixture
def workdir(tmp_path, gallery, endpoint) -> tuple[Path, Path]:
    """A fresh folder to run in, and its config."""
    return tmp_path, write_config(tmp_path, gallery, endpoint)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, gallery, endpoint) -> tuple[Path, Path]:
    """A whole run, made once for all tests that look at it; they leave it as it is.

    Tests at work in several processes share it: the first makes it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "finished"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "run.yaml").exists():
            run_snakemake(folder, write_config(folder, gallery, endpoint))
    return folder, folder / "run.yaml"


@pytest.fixture
def planned(finished) -> Callable[..., set[str]]:
    """Tell which rules a change of the config would run again."""
    folder, config = finished

    def plan(*changes: str) -> set[str]:
        words = ["--config", *changes] if changes else []
        return rules_of(run_snakemake(folder, config, "--dry-run", *words))

    return plan
