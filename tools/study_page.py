"""Write the tables of docs/study.md, its figures and benchmarks/results/study.json from the scores of the study.

    python tools/study_page.py

The scores are those that benchmarks/study.py wrote: benchmarks/results/study_scores.csv, study_knockouts.csv
and study_splits.csv.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

from coda.columns import ADAPTED, HELD_OUT, SPLIT_NAMES, TARGET_SPLITS  # noqa: E402
from coda.figures.style import INK, MM, PALETTE, Drawing, new_figure, save_figure, style  # noqa: E402
from study_summary import (  # noqa: E402
    BEFORE_SECOND,
    CAUSES,
    COVERAGE,
    IN_DOMAIN,
    METHOD,
    SECOND,
    UNADAPTED,
    accuracies,
    differences,
    gap_closed,
    is_rival,
    mean_and_interval,
    worst_pair,
)
from table import RESULTS, Table  # noqa: E402

MARKER = "<!-- Below: written by tools/study_page.py. -->"
GOAL = 0.9


def worlds_table(scores: pd.DataFrame, split: str, level: str = "image") -> list[str]:
    """Accuracy of each method in each world, mean, share of the gap and worst pair, as Markdown."""
    wide = accuracies(scores, split, level)
    closed, worst = gap_closed(wide), worst_pair(scores, split, level)
    names = [name.replace("_", " ") for name in wide.index]
    lines = [f"| method | {' | '.join(names)} | mean (95 %) | gap closed (95 %) | worst pair |"]
    lines += ["|---" * (len(names) + 4) + "|"]
    for method in wide:
        mean, low, high = mean_and_interval(wide[method])
        cells = [f"{value:.3f}" for value in wide[method]]
        cells.append(f"**{mean:.3f}** ({low:.3f} to {high:.3f})")
        share, least, most = (100 * value for value in mean_and_interval(closed[method]))
        gap = "" if method == IN_DOMAIN else f"{share:.0f} % ({least:.0f} to {most:.0f})"
        harm = "" if method == IN_DOMAIN else f"{100 * worst[method]:+.0f}"
        lines.append(f"| {method} | {' | '.join(cells)} | {gap} | {harm} |")
    return lines


def rivals_table(
    scores: pd.DataFrame, level: str = "image", method: str = METHOD, others: tuple[str, ...] = ()
) -> list[str]:
    """How far a method is above each rival and others on held-out plates, in points, as Markdown."""
    found = 100 * differences(accuracies(scores, HELD_OUT, level), method, others)
    lines = ["| rival | method less rival, points (95 %) | above it |", "|---|---|---|"]
    for name, row in found.sort_values("mean").iterrows():
        verdict = "yes" if row["low"] > 0 else "**no**"
        lines.append(
            f"| {name} | {row['mean']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f}) | {verdict} |"
        )
    return lines


def coverage_table(scores: pd.DataFrame) -> list[str]:
    """Coverage and size of the sets of mechanisms of wells on held-out plates, as Markdown."""
    rows = scores[(scores["split"] == HELD_OUT) & (scores["level"] == "well")]
    rows = rows[rows["method"].isin(accuracies(scores, HELD_OUT, "well"))]
    rows = rows[rows["method"] != IN_DOMAIN]
    means = rows.groupby("method", sort=False)[["coverage", "set_size"]].agg(["mean", "min"])
    lines = ["| method | coverage, mean | lowest of a target | mechanisms in a set, mean |"]
    lines += ["|---|---|---|---|"]
    for method, row in means.iterrows():
        share, least, size = (
            row["coverage", "mean"],
            row["coverage", "min"],
            row["set_size", "mean"],
        )
        lines.append(f"| {method} | {100 * share:.0f} % | {100 * least:.0f} % | {size:.1f} |")
    return lines


def splits_table(scores: pd.DataFrame) -> list[str]:
    """Mean accuracy over worlds, share of the gap and worst pair by split and method, as Markdown."""
    lines = ["| split | method | worlds | mean (95 %) | gap closed (95 %) | worst pair |"]
    lines += ["|---" * 6 + "|"]
    for kind, rows in scores.groupby("kind", sort=False):
        wide = accuracies(rows, HELD_OUT)
        closed, worst = gap_closed(wide), worst_pair(rows, HELD_OUT)
        for method in wide:
            mean, low, high = mean_and_interval(wide[method])
            cells = [kind, method, str(len(wide)), f"{mean:.3f} ({low:.3f} to {high:.3f})"]
            if method == IN_DOMAIN:
                cells += ["", ""]
            else:
                share, least, most = (100 * value for value in mean_and_interval(closed[method]))
                cells += [f"{share:.0f} % ({least:.0f} to {most:.0f})"]
                cells += [f"{100 * worst[method]:+.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def knockouts(scores: pd.DataFrame) -> pd.DataFrame:
    """Held-out accuracy by cause (rows) and method (columns), less that of the unadapted pipeline in domain."""
    rows = scores[(scores["level"] == "image") & (scores["split"] == HELD_OUT)]
    rows = rows.assign(value=rows["right"] / rows["units"])
    home = rows.loc[rows["method"] == IN_DOMAIN, "value"].iloc[0]
    rows = rows[rows["method"] != IN_DOMAIN]
    wide = rows.pivot_table("value", "target", "method", sort=False) - home
    return wide.rename(index=CAUSES)


def knockouts_table(wide: pd.DataFrame) -> list[str]:
    """The same in points, as Markdown."""
    lines = [f"| what differs | {' | '.join(wide)} |", "|---" * (wide.shape[1] + 1) + "|"]
    for cause, row in wide.iterrows():
        lines.append(f"| {cause} | {' | '.join(f'{100 * value:+.0f}' for value in row)} |")
    return lines


def draw_worlds(scores: pd.DataFrame) -> Drawing:
    """One dot per world and method, with the mean as a line; adapted and held-out plates side by side."""
    tables = {split: accuracies(scores, split) for split in TARGET_SPLITS}
    methods = list(tables[HELD_OUT])
    with style():
        figure = new_figure((24 + 4.2 * len(methods)) * MM)
        panels = figure.subplots(1, len(TARGET_SPLITS), sharex=True, sharey=True)
        for axes, (split, wide) in zip(panels, tables.items(), strict=True):
            for number, (world, row) in enumerate(wide[methods].iterrows()):
                label, colour = world.replace("_", " "), PALETTE[number]
                axes.scatter(row, range(len(methods)), s=12, color=colour, label=label)
            for place, mean in enumerate(wide[methods].mean()):
                axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=INK)
            axes.set_yticks(range(len(methods)), methods)
            axes.set_title(SPLIT_NAMES[split].capitalize())
            axes.set_xlabel("accuracy per image")
            axes.grid(axis="x")
        axes.invert_yaxis()
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return Drawing(figure, pd.concat(tables, names=["split"]).reset_index())


def draw_knockouts(wide: pd.DataFrame) -> Drawing:
    """Heat map of causes and methods."""
    with style():
        figure = new_figure((30 + 7 * len(wide)) * MM)
        axes = figure.subplots()
        limit = max(0.05, float(wide.abs().to_numpy().max()))
        axes.imshow(wide, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for (row, column), value in pd.DataFrame(wide.to_numpy()).stack().items():
            dark = abs(value) > 0.6 * limit
            colour = "white" if dark else INK
            axes.text(column, row, f"{100 * value:+.0f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(wide.shape[1]), wide.columns, rotation=20, ha="right")
        axes.set_yticks(range(len(wide)), wide.index)
        axes.set_title("Accuracy on the held-out plate less that in domain, points")
    return Drawing(figure, wide.reset_index())


def scatter(axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """Dots with their names; those of this project in the first colour."""
    for method in x.index:
        colour = PALETTE[3] if is_rival(method) else PALETTE[0]
        axes.scatter(x[method], y[method], s=14, color=colour)
        axes.annotate(method, (x[method], y[method]), xytext=(3, 2), textcoords="offset points")


def draw_cost(scores: pd.DataFrame) -> Drawing:
    """Gain over unadapted on held-out plates against seconds of processor for a target; none of the aligned."""
    wide = accuracies(scores, HELD_OUT).mean()
    spent = scores[scores["level"] == "image"].groupby("method", sort=False)["cpu_seconds"].mean()
    names = [name for name in wide.index if ", aligned" not in name]
    names = [name for name in names if name not in (IN_DOMAIN, UNADAPTED)]
    gain, cost = 100 * (wide[names] - wide[UNADAPTED]), spent[names].clip(lower=0.1)
    with style():
        figure = new_figure(95 * MM)
        axes = figure.subplots()
        scatter(axes, cost, gain)
        axes.set_xscale("log")
        axes.set_xlabel("seconds of processor for a target, its predictions included")
        axes.set_ylabel("gain over unadapted, points")
        axes.grid()
    return Drawing(figure, pd.DataFrame({"seconds": cost, "gain": gain}).reset_index())


def write_rows(scores: pd.DataFrame) -> None:
    """Write benchmarks/results/study.json: what was asked for, and the shares of the gap."""
    table = Table("study")
    table.command = "python benchmarks/study.py; python tools/study_page.py"
    for split in TARGET_SPLITS:
        wide = accuracies(scores, split)
        closed, worst = gap_closed(wide), worst_pair(scores, split)
        for method in closed:
            if method in (IN_DOMAIN, UNADAPTED):
                continue
            aimed = (split, method) == (HELD_OUT, METHOD)
            share, harm = closed[method].mean(), worst[method]
            words = f"{SPLIT_NAMES[split]}: {method}"
            goal = (">= 90", share >= GOAL) if aimed else ()
            table.add(f"{words}, gap closed", 100 * share, "%", *goal)
            table.add(
                f"{words}, worst pair",
                100 * harm,
                "points",
                *((">= 0", harm >= 0) if aimed else ()),
            )
    for level in ("image", "well"):
        for name, row in differences(accuracies(scores, HELD_OUT, level)).iterrows():
            words = f"{level}s: method less {name}, lower limit"
            # The protocol compares by images; what names wells only is compared by wells.
            aimed = level == "image" or name.startswith("Measured")
            goal = ("> 0", row["low"] > 0) if aimed else ()
            table.add(words, 100 * row["low"], "points", *goal)
    add_second_rows(table)
    table.finish()


def second_method(scores: pd.DataFrame) -> list[str]:
    """Tables of the second method: against rivals in the worlds of the first, and in its own."""
    if SECOND not in set(scores["method"]):
        return []
    parts, others = [], (METHOD, BEFORE_SECOND)
    for level in ("image", "well"):
        parts += [f"### The second method in worlds 4 to 8, by {level}s"]
        parts += ["\n".join(rivals_table(scores, level, SECOND, others))]
    path = RESULTS / "study_second.csv"
    if path.exists():
        own = pd.read_csv(path)
        for level in ("image", "well"):
            parts += [f"### New worlds, {level}s of the held-out plate"]
            parts += ["\n".join(worlds_table(own, HELD_OUT, level))]
            parts += ["\n".join(rivals_table(own, level, SECOND, (BEFORE_SECOND,)))]
    return parts


def add_second_rows(table: Table) -> None:
    """Add what was asked of the second method in its own worlds, where it was run."""
    path = RESULTS / "study_second.csv"
    if not path.exists():
        return
    scores = pd.read_csv(path)
    wide = accuracies(scores, HELD_OUT)
    share = gap_closed(wide)[SECOND].mean()
    harm = worst_pair(scores, HELD_OUT)[SECOND]
    table.add("new worlds: second method, gap closed", 100 * share, "%", ">= 90", share >= GOAL)
    table.add("new worlds: second method, worst pair", 100 * harm, "points", ">= 0", harm >= 0)
    for name, row in differences(wide, SECOND).iterrows():
        words = f"new worlds: second method less {name}, lower limit"
        table.add(words, 100 * row["low"], "points", "> 0", row["low"] > 0)


def main() -> None:
    """Write the generated part of the page below its marker, the figures and the rows."""
    scores = pd.read_csv(RESULTS / "study_scores.csv")
    page = ROOT / "docs/study.md"
    parts = [page.read_text().split(MARKER)[0].rstrip(), MARKER]
    for split in (HELD_OUT, ADAPTED):
        words = SPLIT_NAMES[split].capitalize()
        parts += [f"### {words}", "\n".join(worlds_table(scores, split))]
    parts += ["### Wells of the held-out plate"]
    parts += ["\n".join(worlds_table(scores, HELD_OUT, "well"))]
    parts += ["### Against rivals, by images", "\n".join(rivals_table(scores))]
    parts += ["### Against rivals, by wells", "\n".join(rivals_table(scores, "well"))]
    parts += [f"### Sets for {COVERAGE:.0%}, wells of held-out plates"]
    parts += ["\n".join(coverage_table(scores))]
    images = ROOT / "docs/images"
    save_figure(draw_worlds(scores), images / "study", dpi=150, vector=False)
    save_figure(draw_cost(scores), images / "study_cost", dpi=150, vector=False)
    if (RESULTS / "study_knockouts.csv").exists():
        wide = knockouts(pd.read_csv(RESULTS / "study_knockouts.csv"))
        parts += ["### Knock-outs, points less than in domain", "\n".join(knockouts_table(wide))]
        save_figure(draw_knockouts(wide), images / "study_knockouts", dpi=150, vector=False)
    if (RESULTS / "study_splits.csv").exists():
        parts += ["### Other splits, held-out plate"]
        parts += ["\n".join(splits_table(pd.read_csv(RESULTS / "study_splits.csv")))]
    parts += second_method(scores)
    page.write_text("\n\n".join(parts) + "\n")
    write_rows(scores)


if __name__ == "__main__":
    main()
