"""The scores as tables for a reader, on a page or in a terminal; an undefined value is empty."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from coda.columns import SPLIT_NAMES, source_name, sources_in_order
from coda.evaluation.estimates import ALL
from coda.evaluation.significance import LEVEL, own_tests
from coda.methods import compared_with, in_order, method_name

MAIN = "coda"
GAP = f"Gap closed by {method_name(MAIN)}"
FEW = 8  # up to so many methods fit beside each other
SPLITS = ("adapted", "held_out")


def accuracy_frame(summary: pd.DataFrame, split: str, level: str = "image") -> pd.DataFrame:
    """One row a pair of sources, one column a method, as text ``0.584 [0.552, 0.613]``.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    split
        ``"adapted"`` or ``"held_out"``.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    pandas.DataFrame
        Columns train, target, in domain (on the training source's own validation plate), the methods, the share of
        the gap closed by CODA, the constant guess and n. The last row is the mean over pairs.
        An undefined value is empty.
    """
    rows = summary[(summary["level"] == level) & (summary["split"] == split)]
    plain = rows[rows["metric"] == "accuracy"].set_index(
        ["train_source", "target_source", "method"]
    )
    pairs = pairs_of(rows)
    methods = [method for method in in_order(plain.index.unique("method")) if method != "chance"]
    table = []
    for train, target in pairs + ([(ALL, ALL)] if len(pairs) > 1 else []):
        home = score_of(summary, (train, train), "in_domain", "validation", level)
        line = {
            "train": source_name(train),
            "target": source_name(target),
            method_name("in_domain"): told(home),
        }
        if train == ALL:
            line |= {"train": "mean of", "target": f"{len(pairs)} pairs"}
        found = {
            method: plain.loc[(train, target, method)]
            for method in [*methods, "chance"]
            if (train, target, method) in plain.index
        }
        line |= {method_name(method): told(found.get(method)) for method in methods}
        gap = score_of(rows, (train, target), MAIN, split, level, "gap_closed")
        line[GAP] = told(gap, percent=True)
        line[method_name("chance")] = told(found.get("chance"))
        line["n"] = f"{max(row['n'] for row in found.values()):,}"
        table.append(line)
    return pd.DataFrame(table)


def accuracy_table(summary: pd.DataFrame, level: str = "image") -> str:
    """Lay out the accuracies for a terminal of some 110 columns, with the short names of the config.

    Returns
    -------
    str
        A block for the adapted plates, then one for the plate kept out: two lines a pair, the values and,
        below, their intervals; with more methods than fit beside each other, two lines a method.
    """
    seeds = int(summary["seeds"].max()) if len(summary) else 0
    runs = "1 seed" if seeds == 1 else f"mean of {seeds} seeds"
    unit = "compounds" if level == "compound" else "wells"
    blocks = [f"Accuracy per {level}, {runs}; below it the 95 % interval (bootstrap over {unit})"]
    short = {method_name(method): method for method in summary["method"]}
    for split in SPLITS:
        frame = accuracy_frame(summary, split, level).rename(columns=short | {GAP: "gap closed"})
        if frame.empty:
            continue
        if len(frame.columns) > FEW + 6:
            frame = frame.set_index(["train", "target"])
            frame.index = [f"{train} {target}" for train, target in frame.index]
            frame = frame.T.reset_index(names="")
        cells = [list(frame.columns)]
        for row in frame.to_numpy():
            values, _, intervals = zip(
                *(cell.rstrip("]").partition(" [") for cell in row), strict=True
            )
            cells += [
                values,
                [bounds.replace(" %, ", " to ").replace(", ", "-") for bounds in intervals],
            ]
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        lines = [line for line in lines if line]
        title = capital(SPLIT_NAMES[split])
        blocks.append("\n".join([title, lines[0], "-" * max(map(len, lines)), *lines[1:]]))
    return "\n\n".join(blocks)


def methods_frame(summary: pd.DataFrame, split: str, level: str = "image") -> pd.DataFrame:
    """One row a method, over all pairs: accuracy, difference from what it is compared with, test, gap closed.

    Returns
    -------
    pandas.DataFrame
        Text. ``p (Holm)`` is that of the mean over pairs, corrected over the methods; ``pairs`` counts those where
        the difference survives the correction over all methods and pairs, up and down. ``SD over pairs`` is the
        standard deviation of the difference, empty for a single pair and where one has no value.
    """
    rows = summary[(summary["level"] == level) & (summary["split"] == split)]
    tested = own_tests(rows)
    single = tested[tested["train_source"] != ALL]
    survives = single[single["p_holm"] < LEVEL]
    table = []
    for method in in_order(rows["method"]):
        difference = score_of(tested, (ALL, ALL), method, split, level, "difference")
        mine = survives.loc[survives["method"] == method, "value"]
        values = single.loc[single["method"] == method, "value"]
        pairs, spread = len(values), values.std(skipna=False)
        line = {
            "method": method_name(method),
            "accuracy": told(score_of(rows, (ALL, ALL), method, split, level)),
            "compared with": "" if difference is None else method_name(difference["baseline"]),
            "difference": told(difference, signed=True),
            "SD over pairs": "" if np.isnan(spread) else f"{spread:.3f}",
            "p (Holm)": "" if difference is None else told_p(difference["p_holm"]),
            "pairs": f"{(mine > 0).sum()} up, {(mine < 0).sum()} down of {pairs}" if pairs else "",
            "gap closed": told(
                score_of(rows, (ALL, ALL), method, split, level, "gap_closed"), percent=True
            ),
        }
        table.append(line)
    return pd.DataFrame(table)


def pairs_frame(summary: pd.DataFrame, train: str, split: str, level: str) -> pd.DataFrame:
    """One row a method, one column a target of a training source; a star where the difference survives."""
    rows = summary[
        (summary["level"] == level)
        & (summary["split"] == split)
        & (summary["train_source"] == train)
    ]
    table = {}
    for target in sources_in_order(rows["target_source"]):
        column = {}
        for method in in_order(rows["method"]):
            pair = (train, target)
            test = score_of(rows, pair, method, split, level, "difference", compared_with(method))
            star = " *" if test is not None and test["p_holm"] < LEVEL else ""
            column[method_name(method)] = told(score_of(rows, pair, method, split, level)) + star
        table[source_name(target)] = column
    return pd.DataFrame(table).rename_axis("method").reset_index()


def controls_frame(summary: pd.DataFrame, controls: list[str], level: str) -> pd.DataFrame:
    """How far each method is above each control, over all pairs: one row a method, two columns a control.

    Intervals are those over compounds: only other compounds are evidence of what holds for a mechanism.
    """
    rows = summary[(summary["level"] == level) & (summary["train_source"] == ALL)]
    table = []
    for method in in_order(rows.loc[rows["baseline"].isin(controls), "method"]):
        line = {"method": method_name(method)}
        for control in controls:
            for split in SPLITS:
                row = score_of(rows, (ALL, ALL), method, split, level, "difference", control)
                where = "adapted" if split == "adapted" else "kept out"
                words = told(row, signed=True, over="_compounds")
                line[f"above {method_name(control).lower()}, {where}"] = words
        if any(list(line.values())[1:]):
            table.append(line)
    return pd.DataFrame(table)


def standing(
    scores: pd.DataFrame, control: str, split: str, left_out: Iterable[str]
) -> dict[str, list[str]]:
    """Say where the methods stand to a control on a split, as means over pairs, by the interval over compounds.

    Parameters
    ----------
    scores
        Rows of one level of the summary, or of one experiment.
    control, split
        The control, and where.
    left_out
        Methods that are not told.

    Returns
    -------
    dict
        Names of the methods ``above`` and ``below`` it, those ``near`` it (their interval holds zero, or there is
        none), and those whose difference is ``undefined``.
    """
    rows = scores[
        (scores["train_source"] == ALL)
        & (scores["split"] == split)
        & (scores["metric"] == "difference")
        & (scores["baseline"] == control)
        & ~scores["method"].isin(left_out)
    ].set_index("method")
    stands = {"above": [], "near": [], "below": [], "undefined": []}
    for method in in_order(rows.index):
        row = rows.loc[method]
        kind = "undefined" if np.isnan(row["value"]) else "near"
        if row["low_compounds"] > 0:
            kind = "above"
        elif row["high_compounds"] < 0:
            kind = "below"
        stands[kind].append(method_name(method))
    return stands


def undefined_frame(summary: pd.DataFrame) -> pd.DataFrame:
    """Values that are empty, and intervals that are, with the reason: one row a reason."""
    rows = summary[summary["reason"].notna() & (summary["value"].isna() | summary["low"].isna())]
    rows = rows[rows["metric"] != "difference"]
    grouped = rows.groupby(["metric", "reason"], sort=True)
    table = grouped.agg(
        methods=("method", lambda names: ", ".join(map(method_name, in_order(names)))),
        values=("value", "size"),
    )
    return table.reset_index()[["metric", "methods", "values", "reason"]]


def pairs_of(summary: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of sources that have scores, in order, without their mean."""
    pairs = {(row.train_source, row.target_source) for row in summary.itertuples()} - {(ALL, ALL)}
    order = [
        (train, target)
        for train in sources_in_order(pair[0] for pair in pairs)
        for target in sources_in_order(pair[1] for pair in pairs)
    ]
    return [pair for pair in order if pair in pairs]


def score_of(
    summary: pd.DataFrame,
    pair: tuple[str, str],
    method: str,
    split: str,
    level: str,
    metric: str = "accuracy",
    baseline: str | None = None,
) -> pd.Series | None:
    """Row of one score, None if there is none."""
    rows = summary[
        (summary["train_source"] == pair[0])
        & (summary["target_source"] == pair[1])
        & (summary["method"] == method)
        & (summary["split"] == split)
        & (summary["level"] == level)
        & (summary["metric"] == metric)
        & ((summary["baseline"] == baseline) if baseline else True)
    ]
    return rows.iloc[0] if len(rows) else None


def told(row: pd.Series | None, percent: bool = False, signed: bool = False, over: str = "") -> str:
    """Write a value with its interval, ``0.584 [0.552, 0.613]``; nothing if it is undefined.

    The interval is that over wells, or with `over` as ``"_compounds"`` that over compounds.
    """
    if row is None or np.isnan(row["value"]):
        return ""
    form, factor = ("{:.0f} %", 100) if percent else ("{:+.3f}" if signed else "{:.3f}", 1)
    value, low, high = (
        form.format(factor * row[name]) for name in ("value", f"low{over}", f"high{over}")
    )
    return value if np.isnan(row[f"low{over}"]) else f"{value} [{low}, {high}]"


def told_p(p: float) -> str:
    """Write a p-value; nothing if there was no test."""
    if np.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def capital(words: str) -> str:
    """Start with a capital, leaving the rest as it is."""
    return words[0].upper() + words[1:]
