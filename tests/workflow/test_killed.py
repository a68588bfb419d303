"""A run from a real S3 server that is killed on its way, twice, and started again."""

import os
import signal
import subprocess
import time

import pytest
from places import ROOT
from workflow_run import snakemake_command


@pytest.mark.slow
def test_killed_while_downloading_and_while_training_it_still_completes(workdir):
    folder, config = workdir
    command = snakemake_command(folder, config, "metrics", "--config", "methods=[unadapted]")
    alone = [command[0], str(ROOT / "tools/run_alone.py"), *command]
    awaited = [
        ("results/images", lambda place: any(place.rglob("*.tiff"))),
        ("results/models", lambda place: any(place.rglob("*.states"))),
    ]
    for name, begun in awaited:
        with open(folder / "output.txt", "a") as output:
            running = subprocess.Popen(
                alone, cwd=folder, stdout=output, stderr=output, start_new_session=True
            )
            deadline = time.monotonic() + 240
            while (
                not begun(folder / name) and running.poll() is None and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            assert running.poll() is None, (folder / "output.txt").read_text()[-4000:]
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    fetched = {
        path: path.stat().st_mtime_ns for path in (folder / "results/manifests").rglob("*.parquet")
    }
    assert len(fetched) >= 2  # all that the training began with
    done = subprocess.run(alone, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "An earlier run was killed" in done.stderr
    assert (folder / "results/metrics.csv").exists()
    assert fetched == {path: path.stat().st_mtime_ns for path in fetched}  # nothing twice
