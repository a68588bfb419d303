"""What benchmarks share: a description of the machine, one printed table, one JSON file."""

import json
import os
import platform
import shlex
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Cores this process may use, their model, and the GPU if the benchmark uses PyTorch."""
    model = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(": ")[1] for line in lines if line.startswith("model name")), model
        )
    words = f"{len(os.sched_getaffinity(0))} cores {model}"
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return f"{words}, no GPU"
    return f"{words}, {torch.cuda.get_device_name()}, torch {torch.__version__}"


class Table:
    """Rows of one benchmark: measured values beside what was asked for."""

    def __init__(self, name: str, where: str | None = None):
        self.name, self.rows, self.machine = name, [], where or machine()
        shown = [word if not os.path.isabs(word) else "PATH" for word in sys.argv[1:]]
        self.command = shlex.join(["python", f"benchmarks/{name}.py", *shown])

    def add(
        self, name: str, value: float, unit: str, target: str = "", met: bool | None = None
    ) -> None:
        """Add one measured value; `target` in words, `met` None where nothing was asked for."""
        self.rows.append(
            {
                "name": name,
                "value": float(f"{value:.4g}"),
                "unit": unit,
                "target": target or None,
                "met": None if met is None else bool(met),
                "command": self.command,
                "machine": self.machine,
            }
        )

    def earlier(self) -> list[dict]:
        """Give the rows that the file has of an earlier measurement."""
        path = RESULTS / f"{self.name}.json"
        return json.loads(path.read_text()) if path.exists() else []

    def finish(self, kept: list[dict] = ()) -> None:
        """Print the table and write ``benchmarks/results/<name>.json``; with the rows of earlier ones in `kept`."""
        print(f"{self.name} on {self.machine}")
        for row in self.rows:
            verdict = {None: "", True: "met", False: "missed"}[row["met"]]
            print(
                f"{row['name']:<58}{row['value']:>12,.4g} {row['unit']:<12}"
                f"{row['target'] or '':<18}{verdict}"
            )
        RESULTS.mkdir(exist_ok=True)
        rows = [*self.rows, *kept]
        (RESULTS / f"{self.name}.json").write_text(json.dumps(rows, indent=2) + "\n")
