"""The disk: no more plates have images on it at once than the config allows."""

import subprocess
import time

from conftest import snakemake_command


def test_no_more_plates_than_allowed_lie_on_the_disk(workdir):
    """With cores that are no multiple of what a job takes, and all jobs of all plates in one run."""
    folder, config = workdir
    command = snakemake_command(
        folder, config, "crops", "--resources", "gpu=0", "--config", "gallery={plates_in_flight: 3}"
    )
    command[command.index("--cores") + 1] = "5"
    most, seen = 0, set()
    with open(folder / "told.txt", "w") as told:
        run = subprocess.Popen(command, stdout=told, stderr=told)
        while run.poll() is None:
            there = {
                (place.parent.name, place.name.removesuffix(".partial"))
                for place in (folder / "results/images").glob("*/*")
                if place.suffix != ".lock"
            }
            seen |= there
            most = max(most, len(there))
            time.sleep(0.005)
    assert run.returncode == 0, (folder / "told.txt").read_text()[-6000:]
    assert len(seen) == 4 and most <= 3
    assert len(list((folder / "results/crops").glob("*/*.arrow"))) == 4
