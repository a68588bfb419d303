"""How long `make demo` takes in a fresh clone, and a newcomer's whole path: clone, installation, demo.

    python benchmarks/demo.py               on this processor, and as on one without AVX-512
    python benchmarks/demo.py --installed   with the environment of this folder instead of a new one
    python benchmarks/demo.py LOCKED=no     variables for make

What is cloned is the commit of this folder. Stages are those of the rules, by the benchmark that Snakemake keeps of
every job. Prints a table and writes benchmarks/results/demo.json, where the first measurement stays as the one before.
"""

import argparse
import os
import re
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from table import Table

ROOT = Path(__file__).parents[1]
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
BEFORE = ", before"
LEAST = 10.0  # seconds; rules that took less are summed up in the last row only
CORES = len(os.sched_getaffinity(0))
DEMO = {2: 600, 8: 240}  # seconds, asked for by cores
NEWCOMER = {2: 900}


def timed(*command: str, folder: Path = ROOT, **variables: str) -> tuple[float, float]:
    """Run a command, which must succeed; give its seconds, and those of processor."""
    start, used = time.perf_counter(), sum(os.times()[2:4])
    subprocess.run(command, cwd=folder, env=os.environ | variables, check=True)
    return time.perf_counter() - start, sum(os.times()[2:4]) - used


def use_environment(folder: Path) -> None:
    """Let a clone use the environment of this folder, as one that is newer than its requirements."""
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for stamp in ("torch", "requirements.lock", "run"):
        (folder / ".venv" / stamp).touch()


def stages(folder: Path) -> dict[str, str]:
    """Give the stage of each rule of a clone: the file that it is in."""
    rule = re.compile(r"^ *(?:rule|checkpoint|use rule \w+ as) (\w+)", re.MULTILINE)
    files = (folder / "rules").glob("*.smk")
    return {name: path.stem for path in files for name in rule.findall(path.read_text())}


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """Read the benchmark of each job of both parts in a clone, with its rule, its stage and when it ended."""
    tables, stage = [], stages(folder)
    for part in ("demo", "demo_own"):
        kept = folder / f"results/{part}/benchmarks"
        for path in sorted(kept.rglob("*.tsv")):
            rule = path.relative_to(kept).parts[0].removesuffix(".tsv")
            job = pd.read_csv(path, sep="\t", na_values="-")
            tables.append(job.assign(rule=rule, stage=stage[rule], end=path.stat().st_mtime))
    return pd.concat(tables)


def add_demo(table: Table, folder: Path, words: str, variables: dict[str, str]) -> float:
    """Run the demo, add how long it took by part, stage and rule, and give its seconds."""
    begun = time.time()
    seconds, used = timed("make", "demo", folder=folder, **variables)
    most = DEMO.get(CORES) if variables else None
    met = seconds <= most if most else None
    table.add(f"make demo{words}", seconds, "s", f"<= {most:,}" if most else "", met)
    table.add(f"make demo, processor{words}", used, "s")
    first = (folder / "results/demo/run.log").stat().st_mtime - begun
    table.add(f"make demo, part 1, a study of three labs{words}", first, "s")
    table.add(f"make demo, part 2, calls for a fourth{words}", seconds - first, "s")
    jobs = read_benchmarks(folder)
    pretraining = jobs[jobs["rule"] == "pretrain_foundation"]
    start = float((pretraining["end"] - pretraining["s"]).iloc[0])
    table.add(f"make demo, until pretraining starts{words}", start - begun, "s")
    for stage, own in jobs.groupby("stage"):
        table.add(f"stage {stage}, sum over jobs{words}", own["s"].sum(), "s")
        table.add(f"stage {stage}, processor{words}", own["cpu_time"].sum(), "s")
    by_rule = jobs.groupby("rule")["s"].sum().sort_values(ascending=False)
    for rule in by_rule.index[by_rule >= LEAST]:
        own = jobs[jobs["rule"] == rule]
        table.add(f"{rule}, {len(own)} jobs{words}", by_rule[rule], "s")
        table.add(f"{rule}, largest memory{words}", own["max_rss"].max(), "MiB")
    table.add(f"all, {len(jobs)} jobs{words}", by_rule.sum(), "s")
    return seconds


def before(rows: list[dict]) -> list[dict]:
    """Give the rows of the first measurement, each marked as such."""
    marked = [row for row in rows if row["name"].endswith(BEFORE)]
    return marked or [
        row | {"name": row["name"] + BEFORE, "target": None, "met": None}
        for row in rows
        if row["unit"] == "s"
    ]


def main() -> None:
    """Measure, print the table and write the results."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--installed", action="store_true", help="use this environment")
    arguments.add_argument("variables", nargs="*", help="for make, such as LOCKED=no")
    given = arguments.parse_args()
    table = Table("demo")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, "coda")
        cloning, _ = timed("git", "clone", "--quiet", str(ROOT), str(folder))
        if given.installed:
            use_environment(folder)
        else:
            installing, _ = timed("make", "setup", *given.variables, folder=folder)
        for words, variables in (("", {}), (", AVX2 only", AVX2)):
            timed("make", "clean", folder=folder)
            demo = add_demo(table, folder, words, variables)
            if not given.installed:
                path, most = cloning + installing + demo, NEWCOMER.get(CORES) if variables else None
                met = path <= most if most else None
                name = f"git clone, make setup, make demo{words}"
                table.add(name, path, "s", f"<= {most:,}" if most else "", met)
        if not given.installed:
            table.add("git clone", cloning, "s")
            table.add("make setup", installing, "s")
    table.finish(before(table.earlier()))


if __name__ == "__main__":
    main()
