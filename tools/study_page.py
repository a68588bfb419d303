r"""Write the tables of docs/study.md and its figure from finished runs of several simulated worlds.

    python tools/study_page.py --setting "the paper's views" results/world_1 results/world_2 \
        --setting "stronger views" results/robust_1 results/robust_2

Each folder holds the results of one world. A world counts as one observation, whatever its number of images.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from coda.comparison import read_scores  # noqa: E402
from coda.methods import METHODS  # noqa: E402
from coda.names import SPLIT_NAMES, in_order, method_name  # noqa: E402
from coda.style import INK, MM, PALETTE, Drawing, new_figure, save_figure, style  # noqa: E402

SPLITS = ("adapted", "held_out")
LEVEL = "image"
MARKER = "<!-- Below: written by tools/study_page.py. -->"


def read_worlds(folders: list[str], setting: str) -> pd.DataFrame:
    """Read the accuracy of every method in every world, as mean over the world's pairs.

    Returns
    -------
    DataFrame
        Columns setting, world (1, 2, ...), method, split, value; ``in_domain`` stands in both splits.
    """
    tables = []
    for world, folder in enumerate(folders, start=1):
        scores = read_scores(Path(folder) / "summary.csv")
        scores = scores[(scores["metric"] == "accuracy") & (scores["level"] == LEVEL)]
        scores = scores[scores["target_source"] == "all"].assign(world=world, setting=setting)
        home = scores[scores["method"] == "in_domain"]
        tables += [scores[scores["split"].isin(SPLITS)]]
        tables += [home.assign(split=split) for split in SPLITS]
    table = pd.concat(tables, ignore_index=True)
    return table[["setting", "world", "method", "split", "value"]]


def mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over worlds and its 95 % interval by Student's t; NaN ends for a single world."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def table_of(wide: pd.DataFrame, plain: pd.Series) -> list[str]:
    """Make the Markdown table of one setting and split.

    Parameters
    ----------
    wide
        Accuracy, a row a world and a column a method.
    plain
        Accuracy without any adaptation in the first setting, by world: where the gap begins.
    """
    worlds = [f"world {world}" for world in wide.index]
    lines = [f"| method | {' | '.join(worlds)} | mean (95 %) | gap closed (95 %) |"]
    lines += ["|---" * (len(worlds) + 3) + "|"]
    gap = wide["in_domain"] - plain
    for method in in_order(wide.columns):
        values = wide[method]
        mean, low, high = mean_and_interval(values.to_numpy())
        closed = ""
        closes = method in METHODS and (METHODS[method].closes_gap or method == "unadapted")
        if closes and not values.equals(plain):
            share, least, most = mean_and_interval(100 * ((values - plain) / gap).to_numpy())
            closed = f"{share:.0f} % ({least:.0f} to {most:.0f})"
        cells = [f"{value:.3f}" for value in values]
        cells += [f"**{mean:.3f}** ({low:.3f} to {high:.3f})", closed]
        lines.append(f"| {method_name(method)} | {' | '.join(cells)} |")
    return lines


def draw(table: pd.DataFrame) -> Drawing:
    """Draw a dot a world, method and setting, and the mean as a line; adapted and held-out plates side by side."""
    methods = [name for name in in_order(table["method"]) if name != "chance"]
    settings = list(dict.fromkeys(table["setting"]))
    with style():
        figure = new_figure((24 + 6 * len(methods)) * MM)
        panels = figure.subplots(1, len(SPLITS), sharex=True, sharey=True)
        for axes, split in zip(panels, SPLITS, strict=True):
            for number, setting in enumerate(settings):
                rows = table[(table["split"] == split) & (table["setting"] == setting)]
                for place, method in enumerate(methods):
                    values = rows.loc[rows["method"] == method, "value"]
                    height = place + 0.36 * (number - (len(settings) - 1) / 2)
                    label = setting if place == 0 else None
                    colour = PALETTE[number]
                    axes.scatter(values, [height] * len(values), s=9, color=colour, label=label)
                    axes.plot([values.mean()] * 2, [height - 0.17, height + 0.17], color=INK)
            axes.set_yticks(range(len(methods)), [method_name(method) for method in methods])
            axes.set_title(SPLIT_NAMES[split].capitalize())
            axes.set_xlabel(f"accuracy per {LEVEL}")
            axes.set_xlim(0, 1.02)
            axes.grid(axis="x")
        axes.invert_yaxis()
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Drawing(figure, table)


def main() -> None:
    """Write the generated part of the page below its marker, and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", nargs="+", action="append", required=True)
    settings = {name: folders for name, *folders in parser.parse_args().setting}
    table = pd.concat([read_worlds(folders, name) for name, folders in settings.items()])
    page = ROOT / "docs/study.md"
    parts = [page.read_text().split(MARKER)[0].rstrip(), MARKER]
    for split in SPLITS:
        rows = table[table["split"] == split]
        wide = {
            setting: rows[rows["setting"] == setting].pivot(
                index="world", columns="method", values="value"
            )
            for setting in settings
        }
        plain = next(iter(wide.values()))["unadapted"]
        for setting in settings:
            parts += [f"### {SPLIT_NAMES[split].capitalize()}, {setting}"]
            parts += ["\n".join(table_of(wide[setting], plain))]
    page.write_text("\n\n".join(parts) + "\n")
    save_figure(draw(table), ROOT / "docs/images/study", dpi=150, vector=False)


if __name__ == "__main__":
    main()
