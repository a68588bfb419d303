"""Write the tables of docs/study.md and its figure from finished runs of several simulated worlds.

    python tools/study_page.py results/world_1 results/world_2 results/world_3

Each folder contains the results of one world. A world is one observation, regardless of its number of images.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from coda.columns import SPLIT_NAMES, TARGET_SPLITS  # noqa: E402
from coda.evaluation.scores import read_scores  # noqa: E402
from coda.figures.style import INK, MM, PALETTE, Drawing, new_figure, save_figure, style  # noqa: E402
from coda.methods import (  # noqa: E402
    COMPOSED,  # noqa: E402
    in_order,
    method_name,
)

LEVEL = "image"
MARKER = "<!-- Below: written by tools/study_page.py. -->"


def read_worlds(folders: list[str]) -> pd.DataFrame:
    """Read the accuracy of every method in every world, as mean over its pairs.

    Returns
    -------
    DataFrame
        Columns world (1, 2, ...), method, split, value; ``in_domain`` is in both splits.
    """
    tables = []
    for world, folder in enumerate(folders, start=1):
        scores = read_scores(Path(folder) / "summary.csv")
        scores = scores[(scores["metric"] == "accuracy") & (scores["level"] == LEVEL)]
        scores = scores[scores["target_source"] == "all"].assign(world=world)
        home = scores[scores["method"] == "in_domain"]
        tables += [scores[scores["split"].isin(TARGET_SPLITS)]]
        tables += [home.assign(split=split) for split in TARGET_SPLITS]
    return pd.concat(tables, ignore_index=True)[["world", "method", "split", "value"]]


def mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over worlds with a 95 % Student's t interval; the limits are NaN for a single world."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def table_of(wide: pd.DataFrame) -> list[str]:
    """Make the Markdown table of one split from accuracies with one row per world and one column per method."""
    worlds = [f"world {world}" for world in wide.index]
    lines = [f"| method | {' | '.join(worlds)} | mean (95 %) | gap closed (95 %) |"]
    lines += ["|---" * (len(worlds) + 3) + "|"]
    gap = wide["in_domain"] - wide["unadapted"]
    for method in in_order(wide.columns):
        values = wide[method]
        mean, low, high = mean_and_interval(values.to_numpy())
        closed = ""
        if method in COMPOSED and COMPOSED[method].closes_gap:
            shares = 100 * (values - wide["unadapted"]) / gap
            share, least, most = mean_and_interval(shares.to_numpy())
            closed = f"{share:.0f} % ({least:.0f} to {most:.0f})"
        cells = [f"{value:.3f}" for value in values]
        cells += [f"**{mean:.3f}** ({low:.3f} to {high:.3f})", closed]
        lines.append(f"| {method_name(method)} | {' | '.join(cells)} |")
    return lines


def draw(table: pd.DataFrame) -> Drawing:
    """Draw one dot per world and method, with the mean as a line; adapted and held-out plates side by side."""
    methods = [name for name in in_order(table["method"]) if name != "chance"]
    worlds = sorted(table["world"].unique())
    with style():
        figure = new_figure((24 + 5 * len(methods)) * MM)
        panels = figure.subplots(1, len(TARGET_SPLITS), sharex=True, sharey=True)
        for axes, split in zip(panels, TARGET_SPLITS, strict=True):
            rows = table[table["split"] == split].pivot(
                index="method", columns="world", values="value"
            )
            rows = rows.loc[methods]
            for world in worlds:
                label, colour = f"world {world}", PALETTE[world - 1]
                axes.scatter(rows[world], range(len(methods)), s=12, color=colour, label=label)
            for place, mean in enumerate(rows.mean(axis=1)):
                axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=INK)
            axes.set_yticks(range(len(methods)), [method_name(method) for method in methods])
            axes.set_title(SPLIT_NAMES[split].capitalize())
            axes.set_xlabel(f"accuracy per {LEVEL}")
            axes.set_xlim(0, 1.02)
            axes.grid(axis="x")
        axes.invert_yaxis()
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(worlds))
    return Drawing(figure, table)


def main(folders: list[str]) -> None:
    """Write the generated part of the page below its marker, and the figure."""
    table = read_worlds(folders)
    page = ROOT / "docs/study.md"
    parts = [page.read_text().split(MARKER)[0].rstrip(), MARKER]
    for split in TARGET_SPLITS:
        rows = table[table["split"] == split]
        wide = rows.pivot(index="world", columns="method", values="value")
        parts += [f"### {SPLIT_NAMES[split].capitalize()}", "\n".join(table_of(wide))]
    page.write_text("\n\n".join(parts) + "\n")
    save_figure(draw(table), ROOT / "docs/images/study", dpi=150, vector=False)


if __name__ == "__main__":
    main(sys.argv[1:])
