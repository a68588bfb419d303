"""How long the demo takes, and its stages, from the benchmark that Snakemake keeps of every job.

    make demo && python benchmarks/demo.py
    python benchmarks/demo.py --avx2 FOLDER   also of a run (its results/demo/benchmarks) under
                                              ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2

Prints a table and writes benchmarks/results/demo.json.
"""

import argparse
from pathlib import Path

import pandas as pd
from table import Table

LEAST = 10.0  # seconds; rules that took less are summed up in the last row only


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """Read the benchmark of each job, with its rule and when it ended."""
    tables = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        job = pd.read_csv(path, sep="\t", na_values="-")
        tables.append(job.assign(rule=rule, end=path.stat().st_mtime))
    return pd.concat(tables)


def add_rows(table: Table, jobs: pd.DataFrame, where: str) -> None:
    """Add the time from the first job to the last, that of each larger rule, and that of all jobs."""
    whole = jobs["end"].max() - (jobs["end"] - jobs["s"]).min()
    table.add(f"whole run{where}", whole, "s", "<= 600 on 2 cores", whole <= 600)
    seconds = jobs.groupby("rule")["s"].sum().sort_values(ascending=False)
    for rule in seconds.index[seconds >= LEAST]:
        own = jobs[jobs["rule"] == rule]
        table.add(f"{rule}, {len(own)} jobs{where}", seconds[rule], "s")
        table.add(f"{rule}, largest memory{where}", own["max_rss"].max(), "MiB")
    table.add(f"all, {len(jobs)} jobs{where}", seconds.sum(), "s")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--benchmarks", type=Path, default=Path("results/demo/benchmarks"))
    arguments.add_argument("--avx2", type=Path, help="the same of a run with AVX2 only")
    given = arguments.parse_args()
    table = Table("demo")
    add_rows(table, read_benchmarks(given.benchmarks), "")
    if given.avx2:
        add_rows(table, read_benchmarks(given.avx2), ", AVX2 only")
    table.finish()


if __name__ == "__main__":
    main()
