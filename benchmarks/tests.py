"""How long the tests take: each part by itself, on this processor and as on one without AVX-512.

    python benchmarks/tests.py
    python benchmarks/tests.py --parts test-unit test-workflow

Parts are targets of the Makefile, and `ci` is .ci/run as a whole. The environment is set up before anything is
measured. Prints a table and writes benchmarks/results/tests.json, where parts that were not measured keep their rows.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from table import Table

ROOT = Path(__file__).parents[1]
PARTS = ("lint", "audit", "test-fast", "test-unit", "test-workflow", "test", "test-cluster", "ci")
MOST = {"test": 600, "ci": 1500}  # seconds, asked for on two cores with AVX2
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def run(part: str, variables: dict[str, str]) -> tuple[float, float]:
    """Run a part, which must succeed; give its seconds, and those of processor."""
    command = [".ci/run"] if part == "ci" else ["make", part]
    start, used = time.perf_counter(), sum(os.times()[2:4])
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout[-6000:]}\n{part} failed.")
    return time.perf_counter() - start, sum(os.times()[2:4]) - used


def main() -> None:
    """Measure the parts, print the table and write the results."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parts = arguments.parse_args().parts
    subprocess.run(["make", ".venv/cluster"], cwd=ROOT, check=True, stdout=sys.stderr)
    table = Table("tests")
    for words, variables in (("", {}), (", AVX2 only", AVX2)):
        for part in parts:
            seconds, used = run(part, variables)
            asked = MOST.get(part) if variables else None
            name = f"{'.ci/run' if part == 'ci' else f'make {part}'}{words}"
            if asked:
                table.add(name, seconds, "s", f"< {asked:,}", seconds < asked)
            else:
                table.add(name, seconds, "s")
            table.add(f"{name}: processor", used, "s")
    measured = {row["name"] for row in table.rows}
    table.finish([row for row in table.earlier() if row["name"] not in measured])


if __name__ == "__main__":
    main()
