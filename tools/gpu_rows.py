"""Write benchmarks/results/gpu.json from what benchmarks/gpu.py measured.

    python tools/gpu_rows.py gpu.json [more.json ...]

Several results must be of one commit and device; a part that is in two of them is taken from the last.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rows_of(results: list[dict]) -> list[dict]:
    """Make rows of the table of benchmarks.

    Raises
    ------
    ValueError
        If a result is of a toy, of changed files or of an unknown commit, or the results differ in commit or device.
    """
    for result in results:
        if result["toy"]:
            raise ValueError(
                "the result is of a toy, whose numbers mean nothing; run it without --toy"
            )
        if not result["about"]["commit"]:
            raise ValueError(
                "the result does not say of which commit it is; run it with --commit where there is no git"
            )
        if result["about"]["changed_files"]:
            raise ValueError(
                "the result is of files that differ from their commit; commit them and run it again"
            )
    first = results[0]["about"]
    for result in results[1:]:
        for fact in ("commit", "device", "driver", "torch"):
            if result["about"].get(fact) != first.get(fact):
                raise ValueError(
                    f"the results differ in {fact}: {first.get(fact)} and {result['about'].get(fact)}"
                )
    parts = {}
    for result in results:
        command = {"command": result["command"], "machine": machine(result["about"])}
        for name, part in result["parts"].items():
            parts[name] = [row | command for row in part["rows"]]
    rows = [row for part in parts.values() for row in part]
    return rows + _ratios(rows)


def machine(about: dict) -> str:
    """Say where and on which state of the code it was measured."""
    return (
        f"{about['cores']} cores {about['processor']}, {about['device']}, driver {about['driver']}, "
        f"torch {about['torch']}, commit {about['commit']}"
    )


def _ratios(rows: list[dict]) -> list[dict]:
    """Ratios of rates that were measured in the same run."""
    values = {row["name"]: row for row in rows}
    ours, usual = (values.get(name) for name in ("end to end, batch 128", "the usual way"))
    if ours is None or usual is None:
        return []
    ratio = float(f"{ours['value'] / usual['value']:.4g}")
    name = "end to end over the usual way"
    return [usual | {"name": name, "value": ratio, "unit": "x", "target": None, "met": None}]


def main() -> None:
    """Read results and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpu.json")
    options = parser.parse_args()
    results = [json.loads(path.read_text()) for path in options.results]
    try:
        rows = rows_of(results)
    except ValueError as error:
        sys.exit(f"{options.results[0]}: {error}")
    options.out.write_text(json.dumps(rows, indent=2) + "\n")
    for result in results:
        for name, part in result["parts"].items():
            if part["status"] != "done":
                print(f"{name}: {part['status']}; {len(part['rows'])} of its rows are there")
    print(f"{options.out}: {len(rows)} rows; next: python tools/benchmarks_readme.py")


if __name__ == "__main__":
    main()
