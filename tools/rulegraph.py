"""Write docs/rulegraph.md: the rules, and which needs which, as Snakemake plans them.

    python tools/rulegraph.py

The plan is that of one pair of labs with three plates each and every experiment. An arrow that others already imply is
left out.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/rulegraph.md"
OPENING = """# The rules, and which needs which

<!-- Written by tools/rulegraph.py from the workflow; change the rules and run it again. -->

Each box is a file in `rules/`. Drawn for one pair of labs with every experiment; arrows that others imply are left out.

"""
SOURCES = {"source_8": "A1166127", "source_11": "EC103-132LM2"}
ROOMS = (
    "gallery",
    "crops",
    "training",
    "evaluation",
    "experiments",
    "predict",
    "figures",
    "report",
)
# Left out: targets, which make nothing.
TARGETS = {"all"}


def plan() -> str:
    """Let Snakemake draw the rules of a run whose plates are chosen, in the language of mermaid."""
    with tempfile.TemporaryDirectory() as folder:
        rows = ["Metadata_Source,Metadata_Batch,Metadata_Plate,Metadata_PlateType"]
        for source, held_out in SOURCES.items():
            plates = (held_out, f"{source}_a", f"{source}_b")
            rows += [f"{source},{plate}_batch,{plate},TARGET2" for plate in plates]
        (Path(folder) / "plate.csv").write_text("\n".join(rows) + "\n")
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", folder,
            "--configfile", str(ROOT / "config/pair.yaml"), "--cores", "1", "--config", "tables={plate: plate.csv}",
            "experiments={run: [plates, online, compounds, mix], plates: [1]}",
        ]  # fmt: skip
        subprocess.run(
            [*command, "--", "results/metadata/plates.csv"], check=True, capture_output=True
        )
        drawn = [*command, "--rulegraph", "mermaid-js"]
        return subprocess.run(drawn, check=True, capture_output=True, text=True).stdout


def edges_of(drawn: str) -> set[tuple[str, str]]:
    """Read which rule is needed by which."""
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]$", drawn, re.M))
    arrows = re.findall(r"^\s*(id\d+) --> (id\d+)$", drawn, re.M)
    edges = {(names[first], names[second]) for first, second in arrows}
    return {edge for edge in edges if not TARGETS & {*edge} and edge[0] != edge[1]}


def reduced(edges: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out each arrow from which a longer way leads to the same place."""
    after: dict[str, set[str]] = {}
    for first, second in edges:
        after.setdefault(first, set()).add(second)

    def leads(place: str, goal: str) -> bool:
        return place == goal or any(leads(each, goal) for each in after.get(place, ()))

    return sorted(
        (first, second)
        for first, second in edges
        if not any(leads(each, second) for each in after[first] - {second})
    )


def rooms() -> dict[str, str]:
    """Name the file of each rule."""
    pattern = re.compile(r"^ *(?:(?:rule|checkpoint) (\w+):|use rule \w+ as (\w+) )", re.M)
    return {
        match[1] or match[2]: room
        for room in ROOMS
        for match in pattern.finditer((ROOT / f"rules/{room}.smk").read_text())
    }


def page(drawn: str) -> str:
    """Make the page."""
    edges = reduced(edges_of(drawn))
    shown = {name for edge in edges for name in edge}
    room_of = rooms()
    lines = ["```mermaid", "flowchart TB"]
    for room in ROOMS:
        own = sorted(name for name in shown if room_of[name] == room)
        lines += [f"  subgraph {room}", *(f"    {name}" for name in own), "  end"]
    lines += [f"  {first} --> {second}" for first, second in edges]
    return OPENING + "\n".join([*lines, "```"]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(plan()))
