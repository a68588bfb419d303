"""Write benchmarks/README.md from benchmarks/results/*.json: every measured speed, with its command."""

import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
OPENING = """# Benchmarks

<!-- Written by tools/benchmarks_readme.py from results/*.json. -->

All speeds that the documentation mentions, with the command that measures them. Each benchmark prints one table and
writes it to `results/`. Ratios are from one run on one machine. Targets that were missed are marked **no**. `PATH`
stands for a path on the machine of the measurement.
"""


def section(path: Path) -> str:
    """Make the section of one benchmark."""
    rows = json.loads(path.read_text())
    lines = [f"## {path.stem}", "", f"`{rows[0]['command']}` on {rows[0]['machine']}", ""]
    states = dict.fromkeys(row["state"] for row in rows if "state" in row)
    lines += [line for state in states for line in (f"**{state}**", "")]
    lines += ["| measurement | value | unit | target | met |", "|---|---|---|---|---|"]
    for row in rows:
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        lines.append(
            f"| {row['name']} | {row['value']:,.4g} | {row['unit']} | {row['target'] or ''} | {met} |"
        )
    return "\n".join(lines)


def page() -> str:
    """Make the whole page."""
    sections = [section(path) for path in sorted((FOLDER / "results").glob("*.json"))]
    return "\n\n".join([OPENING.rstrip(), *sections]) + "\n"


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(page())
