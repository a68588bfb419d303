"""How long Snakemake takes to plan a run (`snakemake -n`): all Target-2 plates, and every plate there is.

Needs JUMP's plate table (jump-cellpainting/datasets, metadata/plate.csv.gz). The plates are chosen
by the workflow's own rule; then the whole run is planned, from nothing to the report.

    python benchmarks/planning.py /path/to/plate.csv.gz
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml
from table import Table

ROOT = Path(__file__).resolve().parent.parent
OTHER_TABLES = ("well", "compound", "platemap", "target_compounds", "drugs")
TRAIN = "source_3"


def write_config(folder: Path, plates: pd.DataFrame) -> Path:
    """Write the plate table and a config that takes every source of it; all other tables are empty."""
    plates.to_csv(folder / "plate.csv", index=False)
    for name in OTHER_TABLES:
        (folder / f"{name}.csv").touch()
    sources = {source: {"validation_plate": None} for source in plates["Metadata_Source"].unique()}
    first = plates.loc[plates["Metadata_Source"] == TRAIN, "Metadata_Plate"].iloc[0]
    sources[TRAIN] = {"validation_plate": first}
    config = {
        "tables": {name: str(folder / f"{name}.csv") for name in ("plate", *OTHER_TABLES)},
        "sources": sources,
        "train_sources": [TRAIN],
        "target_sources": sorted(set(sources) - {TRAIN}),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def snakemake(folder: Path, *words: str) -> tuple[float, float, str]:
    """Run Snakemake on the workflow in `folder`; give its seconds, those of processor, and its words."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    start, used = time.perf_counter(), sum(os.times()[2:4])
    done = subprocess.run(
        [*command, "--cores", "1", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    return time.perf_counter() - start, sum(os.times()[2:4]) - used, done.stdout


def main() -> None:
    """Measure both plans, print the table and write the results."""
    table = Table("planning")
    every = pd.read_csv(sys.argv[1], dtype=str)
    target2 = every[every["Metadata_PlateType"] == "TARGET2"]
    for plates, bound in ((target2, 15), (every.assign(Metadata_PlateType="TARGET2"), 90)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_config(folder, plates)
            snakemake(folder, "results/metadata/plates.csv")
            seconds, used, told = min(
                snakemake(folder, "--dry-run", "--quiet", "rules") for _ in range(3)
            )
            jobs = next(line for line in told.splitlines() if line.startswith("download_plate"))
            assert int(jobs.split()[1]) == len(plates), jobs
        name = (
            f"snakemake -n, {len(plates)} plates of {plates['Metadata_Source'].nunique()} sources"
        )
        table.add(name, seconds, "s", f"< {bound}", seconds < bound)
        table.add(f"{name}: processor", used, "s")
    table.finish()


if __name__ == "__main__":
    main()
