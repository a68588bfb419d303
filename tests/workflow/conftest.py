"""The real Snakefile on a tiny simulated gallery, served by a real S3 server."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from places import ROOT
from workflow_run import rules_of, run_snakemake, write_config


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
    with FileLock(folder / "lock"):
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
