"""Tables of scores for the report and the terminal; an undefined value is empty."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from coda.columns import (
    SPLIT_NAMES,
    TARGET_SPLITS,
    VALIDATION,
    source_name,
    sources_in_order,
)
from coda.evaluation.estimates import ALL
from coda.evaluation.significance import ALPHA, own_tests
from coda.methods import CONTROLS, compared_with, control_name, in_order, method_name

MAIN = "coda"
GAP = f"Gap closed by {method_name(MAIN)}"
FEW = 8  # most methods beside each other


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
        Columns train, target, in domain (on the training source's own held-out plate), the methods, the share of
        the gap closed by CODA, the constant guess and n. The last row is the mean over pairs. An undefined
        value is empty.
    """
    rows = summary[(summary["level"] == level) & (summary["split"] == split)]
    plain = rows[rows["metric"] == "accuracy"].set_index(
        ["train_source", "target_source", "method"]
    )
    pairs = pairs_of(rows)
    methods = [method for method in in_order(plain.index.unique("method")) if method != "chance"]
    table = []
    for train, target in pairs + ([(ALL, ALL)] if len(pairs) > 1 else []):
        home = score_of(summary, (train, train), "in_domain", VALIDATION, level)
        line = {
            "train": source_name(train),
            "target": source_name(target),
            method_name("in_domain"): value_text(home),
        }
        if train == ALL:
            line |= {"train": "mean of", "target": f"{len(pairs)} pairs"}
        found = {
            method: plain.loc[(train, target, method)]
            for method in [*methods, "chance"]
            if (train, target, method) in plain.index
        }
        line |= {method_name(method): value_text(found.get(method)) for method in methods}
        gap = score_of(rows, (train, target), MAIN, split, level, "gap_closed")
        line[GAP] = value_text(gap, percent=True)
        line[method_name("chance")] = value_text(found.get("chance"))
        line["n"] = f"{max(row['n'] for row in found.values()):,}"
        table.append(line)
    return pd.DataFrame(table)


def accuracy_table(summary: pd.DataFrame, level: str = "image") -> str:
    """Lay out the accuracies for a terminal of 110 columns, with the methods' names of the config.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.

    Returns
    -------
    str
        A block for the adapted plates, then one for the held-out plate: two lines a pair, values above their intervals;
        with more methods than fit beside each other, two lines a method.
    """
    seeds = int(summary["seeds"].max()) if len(summary) else 0
    runs = "1 seed" if seeds == 1 else f"mean of {seeds} seeds"
    unit = "compounds" if level == "compound" else "wells"
    blocks = [f"Accuracy per {level}, {runs}; below it the 95 % interval (bootstrap over {unit})"]
    short = {method_name(method): method for method in summary["method"]}
    for split in TARGET_SPLITS:
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

    Parameters
    ----------
    summary, split, level
        As in `accuracy_frame`.

    Returns
    -------
    pandas.DataFrame
        Text. ``p (Holm)`` is that of the mean over pairs, corrected over the methods; ``significant pairs`` counts
        those where the difference is significant after correction over all methods and pairs, up and down.
        ``SD over pairs`` is the standard deviation of the difference, empty for a single pair or an undefined one.
    """
    rows = summary[(summary["level"] == level) & (summary["split"] == split)]
    tested = own_tests(rows)
    single = tested[tested["train_source"] != ALL]
    significant = single[single["p_holm"] < ALPHA]
    table = []
    for method in in_order(rows["method"]):
        difference = score_of(tested, (ALL, ALL), method, split, level, "difference")
        mine = significant.loc[significant["method"] == method, "value"]
        values = single.loc[single["method"] == method, "value"]
        pairs, spread = len(values), values.std(skipna=False)
        line = {
            "method": method_name(method),
            "accuracy, %": value_text(
                score_of(rows, (ALL, ALL), method, split, level), points=True
            ),
            "compared with": "" if difference is None else method_name(difference["baseline"]),
            "difference, points": value_text(difference, signed=True, points=True),
            "SD over pairs": "" if np.isnan(spread) else f"{100 * spread:.1f}",
            "p (Holm)": "" if difference is None else p_text(difference["p_holm"]),
            "significant pairs": f"{(mine > 0).sum()} up, {(mine < 0).sum()} down of {pairs}"
            if pairs
            else "",
            "gap closed": value_text(
                score_of(rows, (ALL, ALL), method, split, level, "gap_closed"), percent=True
            ),
        }
        table.append(line)
    return pd.DataFrame(table)


def pairs_frame(summary: pd.DataFrame, train: str, split: str, level: str) -> pd.DataFrame:
    """One row a method, one column a target of a training source; a star marks a significant difference.

    Parameters
    ----------
    summary, split, level
        As in `accuracy_frame`.
    train
        The training source.
    """
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
            star = " *" if test is not None and test["p_holm"] < ALPHA else ""
            column[method_name(method)] = (
                value_text(score_of(rows, pair, method, split, level), points=True) + star
            )
        table[source_name(target)] = column
    return pd.DataFrame(table).rename_axis("method").reset_index()


def labs_frame(
    summary: pd.DataFrame, held_out: dict[str, str], split: str, level: str = "image"
) -> pd.DataFrame:
    """One row a method, one column a lab, for a single training source: at home and at each target; controls last.

    Parameters
    ----------
    summary, split, level
        As in `accuracy_frame`.
    held_out
        Names of each source's held-out plates, which stand in the headings.
    """
    (train,) = set(summary["train_source"]) - {ALL}
    rows = summary[(summary["level"] == level) & (summary["split"] == split)]
    targets = sources_in_order(set(rows["target_source"]) - {ALL})
    headings = {
        source: source_name(source) + (f", {held_out[source]}" if source in held_out else "")
        for source in [train, *targets]
    }
    home = score_of(summary, (train, train), "in_domain", VALIDATION, level)
    table = [{"method": method_name("in_domain"), headings[train]: value_text(home, points=True)}]
    methods = in_order(set(rows["method"]) - {"chance"})
    for method in sorted(methods, key=lambda name: name in CONTROLS):
        values = {
            headings[target]: value_text(
                score_of(rows, (train, target), method, split, level), points=True
            )
            for target in targets
        }
        table.append({"method": method_name(method)} | values)
    return pd.DataFrame(table).fillna("")


def controls_frame(summary: pd.DataFrame, controls: list[str], level: str) -> pd.DataFrame:
    """Difference of each method from each control, mean over pairs: one row a method, two columns a control.

    Intervals are those over compounds: only other compounds are evidence of what holds for a mechanism.

    Parameters
    ----------
    summary, level
        As in `accuracy_frame`.
    controls
        Their names.
    """
    rows = summary[(summary["level"] == level) & (summary["train_source"] == ALL)]
    table = []
    for method in in_order(rows.loc[rows["baseline"].isin(controls), "method"]):
        line = {"method": method_name(method)}
        for control in controls:
            for split in TARGET_SPLITS:
                row = score_of(rows, (ALL, ALL), method, split, level, "difference", control)
                words = value_text(row, signed=True, over="_compounds", points=True)
                line[f"above {control_name(control)}, {SPLIT_NAMES[split]}"] = words
        if any(list(line.values())[1:]):
            table.append(line)
    return pd.DataFrame(table)


def standing(
    scores: pd.DataFrame, control: str, split: str, left_out: Iterable[str]
) -> dict[str, list[str]]:
    """Sort methods by how they compare with a control on a split, mean over pairs, by the interval over compounds.

    Parameters
    ----------
    scores
        Rows of one level of the summary, or of one experiment.
    control, split
        The control, and ``"adapted"`` or ``"held_out"``.
    left_out
        Methods to leave out.

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
    """Undefined values and intervals, one row a reason."""
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
    """Give the row of one score, None if there is none.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`, or part of it.
    pair
        Training source and target, both ``"all"`` for the mean over pairs.
    method, split, level, metric
        As in the columns.
    baseline
        For the metric ``"difference"``: what the method is compared with.
    """
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


def value_text(
    row: pd.Series | None,
    percent: bool = False,
    signed: bool = False,
    over: str = "",
    points: bool = False,
) -> str:
    """Write a value with its interval, ``0.584 [0.552, 0.613]``; nothing if it is undefined.

    Parameters
    ----------
    row
        A row of scores.
    percent, signed
        Whether to write a percentage, or a sign.
    points
        Whether to write hundredths, as tables in percent have them: ``58.4 [55.2, 61.3]``.
    over
        Nothing for the interval over wells, ``"_compounds"`` for that over compounds.
    """
    if row is None or np.isnan(row["value"]):
        return ""
    sign = "+" if signed else ""
    form, factor = f"{{:{sign}.3f}}", 1
    if percent or points:
        form, factor = ("{:.0f} %" if percent else f"{{:{sign}.1f}}"), 100
    value, low, high = (
        form.format(factor * row[name]) for name in ("value", f"low{over}", f"high{over}")
    )
    return value if np.isnan(row[f"low{over}"]) else f"{value} [{low}, {high}]"


def p_text(p: float) -> str:
    """Write a p-value; nothing if there was no test."""
    if np.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def capital(words: str) -> str:
    """Start with a capital, leaving the rest as it is."""
    return words[0].upper() + words[1:]
