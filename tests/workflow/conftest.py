"""The real Snakefile: one whole run that tests share, and folders to run in from a gallery on a real S3 server."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from places import ROOT
from tutorial import BLOCKS, RUN, copy_workflow, follow
from workflow_run import rules_of, run_snakemake, write_config


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Whatever waits for the whole run is slow."""
    for item in items:
        if "finished" in item.fixturenames:
            item.add_marker("slow")


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
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """A copy of the workflow in which the tutorial was followed through its whole run, and the config of that.

    It is made once for all tests that look at it; they leave it as it is. Tests at work in several
    processes share it: the first makes it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not folder.exists():
            copy_workflow(folder)
            said = follow(folder, BLOCKS[:RUN])
            (folder / "said.json").write_text(json.dumps(said))
    if not (folder / "said.json").exists():
        pytest.fail("the whole run failed in another test")
    return folder, folder / "config/tiny.yaml"


@pytest.fixture
def results(finished) -> Path:
    """Results of the whole run."""
    return finished[0] / "results/tiny"


@pytest.fixture
def planned(finished) -> Callable[..., set[str]]:
    """Tell which rules a change of the config would run again."""
    folder, config = finished

    def plan(*changes: str) -> set[str]:
        words = ["--config", *changes] if changes else []
        return rules_of(run_snakemake(folder, config, "--dry-run", *words))

    return plan
