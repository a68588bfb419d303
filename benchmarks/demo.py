"""What the demo's stages took, from the benchmark that Snakemake keeps of every job.

    make demo && python benchmarks/demo.py

Prints a table and writes benchmarks/results/demo.json.
"""

import argparse
from pathlib import Path

import pandas as pd
from table import Table

LEAST = 10.0  # seconds; rules that took less are summed up in the last row only


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """Read the benchmark of each job, with its rule."""
    tables = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        tables.append(pd.read_csv(path, sep="\t", na_values="-").assign(rule=rule))
    return pd.concat(tables)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--benchmarks", type=Path, default=Path("results/demo/benchmarks"))
    table = Table("demo")
    jobs = read_benchmarks(arguments.parse_args().benchmarks)
    seconds = jobs.groupby("rule")["s"].sum().sort_values(ascending=False)
    for rule in seconds.index[seconds >= LEAST]:
        own = jobs[jobs["rule"] == rule]
        table.add(f"{rule}, {len(own)} jobs", seconds[rule], "s")
        table.add(f"{rule}, largest memory", own["max_rss"].max(), "MiB")
    table.add(f"all, {len(jobs)} jobs", seconds.sum(), "s")
    table.finish()


if __name__ == "__main__":
    main()
