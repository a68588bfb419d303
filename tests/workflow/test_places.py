"""The disk: no more plates have images on it at once than the config allows."""

import subprocess
import time

import pandas as pd
import pytest
from workflow_run import run_snakemake, snakemake_command


@pytest.mark.slow
def test_no_more_plates_than_allowed_lie_on_the_disk(workdir):
    """With cores that are no multiple of what a job takes, and plates that an earlier run began.

    Those go first: the one that is new finds no room while they lie there, and would be refused.
    """
    folder, config = workdir
    run_snakemake(folder, config, "plan")
    plates = pd.read_csv(folder / "results/metadata/plates.csv")
    for source, plate in zip(plates.Metadata_Source[1:], plates.Metadata_Plate[1:], strict=True):
        (folder / f"results/images/{source}/{plate}.partial").mkdir(parents=True)
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
