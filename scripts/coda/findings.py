"""What was found, in words and in one table, from the summary of the scores alone."""

import numpy as np
import pandas as pd

from coda.estimates import ALL
from coda.names import SPLIT_NAMES, in_order, method_name, source_name, sources_in_order

CONTROLS = ("intensity", "position", "shuffled")
MAIN = "coda"


def accuracy_frame(summary: pd.DataFrame, split: str, level: str = "image") -> pd.DataFrame:
    """One row a pair of sources, one column a method, as text ``0.584 [0.552, 0.613]``.

    Parameters
    ----------
    summary
        `coda.comparison.Evaluation.summary`.
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
    pairs = {(row.train_source, row.target_source) for row in rows.itertuples()} - {(ALL, ALL)}
    order = [
        (train, target)
        for train in sources_in_order(p[0] for p in pairs)
        for target in sources_in_order(p[1] for p in pairs)
    ]
    methods = in_order(method for _, _, method in plain.index)
    table = []
    for train, target in [pair for pair in order if pair in pairs] + (
        [(ALL, ALL)] if len(pairs) > 1 else []
    ):
        home = _one(summary, (train, train), "in_domain", "validation", level)
        line = {
            "train": source_name(train),
            "target": source_name(target),
            method_name("in_domain"): _told(home),
        }
        if train == ALL:
            line |= {"train": "mean of", "target": f"{len(pairs)} pairs"}
        found = {
            method: plain.loc[(train, target, method)]
            for method in methods
            if (train, target, method) in plain.index
        }
        line |= {
            method_name(method): _told(found.get(method))
            for method in methods
            if method != "chance"
        }
        gap = _one(rows, (train, target), MAIN, split, level, "gap_closed")
        line["Gap closed by CODA"] = _told(gap, percent=True)
        line[method_name("chance")] = _told(found.get("chance"))
        line["n"] = f"{max(row['n'] for row in found.values()):,}"
        table.append(line)
    return pd.DataFrame(table)


def accuracy_table(summary: pd.DataFrame, level: str = "image") -> str:
    """Lay out the accuracies for a terminal of some 110 columns, with the short names of the config.

    Returns
    -------
    str
        A block for the adapted plates, then one for the plate kept out: two lines a pair,
        the values and, below, their intervals.
    """
    seeds = int(summary["seeds"].max()) if len(summary) else 0
    runs = "1 seed" if seeds == 1 else f"mean of {seeds} seeds"
    unit = "compounds" if level == "compound" else "wells"
    blocks = [f"Accuracy per {level}, {runs}; below it the 95 % interval (bootstrap over {unit})"]
    short = {method_name(method): method for method in summary["method"]}
    for split in ("adapted", "held_out"):
        frame = accuracy_frame(summary, split, level).rename(
            columns=short | {"Gap closed by CODA": "gap closed"}
        )
        if frame.empty:
            continue
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
        blocks.append(
            "\n".join(
                [_capital(SPLIT_NAMES[split]), lines[0], "-" * max(map(len, lines)), *lines[1:]]
            )
        )
    return "\n\n".join(blocks)


def findings(
    summary: pd.DataFrame, quality: pd.DataFrame | None = None, level: str = "image"
) -> list[str]:
    """Tell what was found in a few sentences made from the numbers, the disappointing ones as plainly.

    Parameters
    ----------
    summary
        `coda.comparison.Evaluation.summary`.
    quality
        One row a planned site with its status, for a sentence on sites lost.
    level
        Level of the accuracies told.
    """
    said = [_starting_point(summary, level)]
    methods = set(summary["method"])
    for split in ("adapted", "held_out"):
        if MAIN in methods:
            said.append(_adaptation(summary, split, level))
    if {MAIN, "oda"} <= methods:
        said.append(_partners(summary, level))
    said += [_control(summary, control, level) for control in CONTROLS if control in methods]
    if quality is not None and len(quality):
        lost = int((quality["status"] != "ok").sum())
        said.append(
            f"Of {len(quality):,} planned sites {lost:,} ({100 * lost / len(quality):.1f} %) were lost; "
            "they count nowhere."
        )
    return [sentence for sentence in said if sentence]


def _starting_point(summary: pd.DataFrame, level: str) -> str:
    home = _one(summary, (ALL, ALL), "in_domain", "validation", level)
    guess = _one(summary, (ALL, ALL), "chance", "validation", level)
    away = _one(summary, (ALL, ALL), "unadapted", "adapted", level)
    parts = []
    if home is not None:
        chance = (
            f"; always naming the commonest class gives {100 * guess['value']:.1f} %"
            if guess is not None
            else ""
        )
        parts.append(
            "On a plate of its own source that it had not seen, the classifier named the right "
            f"mechanism of action for {_share(home)} of the {level}s{chance}."
        )
    if away is not None:
        parts.append(
            f"On plates of other sources, without adaptation, it did so for {_share(away)}."
        )
    if home is not None and away is not None:
        drop = home["value"] - away["value"]
        if home["low"] > away["high"]:
            parts.append(f"Changing the source cost {100 * drop:.1f} points.")
        else:
            parts.append(
                "The two intervals overlap, so this run shows no clear gap between sources for adaptation to close."
            )
    return " ".join(parts)


def _adaptation(summary: pd.DataFrame, split: str, level: str) -> str:
    after = _one(summary, (ALL, ALL), MAIN, split, level)
    gain = _one(summary, (ALL, ALL), MAIN, split, level, "difference", "unadapted")
    gap = _one(summary, (ALL, ALL), MAIN, split, level, "gap_closed")
    if after is None or gain is None:
        return ""
    where = (
        "On the plates it adapted to" if split == "adapted" else "On plates kept out of adaptation"
    )
    sentence = f"{where}, CODA reached {_share(after)}, {_points(gain)} against no adaptation. {_verdict(gain)}"
    if gap is not None and not np.isnan(gap["value"]):
        sentence += f" That is {_told(gap, percent=True)} of the gap to in domain."
    elif gap is not None:
        sentence += f" The share of the gap closed is undefined: {gap['reason']}."
    return f"{sentence} {_pairs(summary, split, level)}".strip()


def _verdict(gain: pd.Series) -> str:
    if gain["low"] > 0:
        return "The interval lies above zero: adaptation helped."
    if gain["high"] < 0:
        return "The interval lies below zero: adaptation made it worse."
    return "The interval includes zero: this run does not show that adaptation helps."


def _pairs(summary: pd.DataFrame, split: str, level: str) -> str:
    rows = summary[
        (summary["metric"] == "difference")
        & (summary["baseline"] == "unadapted")
        & (summary["method"] == MAIN)
        & (summary["split"] == split)
        & (summary["level"] == level)
        & (summary["train_source"] != ALL)
    ].dropna(subset="value")
    if len(rows) < 2:
        return ""
    higher, clear, lower = (
        (rows["value"] > 0).sum(),
        (rows["low"] > 0).sum(),
        (rows["high"] < 0).sum(),
    )
    return (
        f"It was higher in {higher} of {len(rows)} pairs, with intervals clear of zero in {clear}; "
        f"clearly lower in {lower}."
    )


def _partners(summary: pd.DataFrame, level: str) -> str:
    kept = _one(summary, (ALL, ALL), MAIN, "held_out", level, "difference", "oda")
    seen = _one(summary, (ALL, ALL), MAIN, "adapted", level, "difference", "oda")
    if kept is None or seen is None:
        return ""
    clear = [row["low"] > 0 for row in (seen, kept)]
    verdict = {2: "partners helped", 0: "no clear benefit of partners"}.get(
        sum(clear), "a clear benefit on one of the two only"
    )
    return (
        f"Partners from other plates (CODA against ODA): {_points(seen)} on adapted plates and "
        f"{_points(kept)} on those kept out; {verdict}."
    )


def _control(summary: pd.DataFrame, control: str, level: str) -> str:
    value = _one(summary, (ALL, ALL), control, "adapted", level)
    if value is None:
        return ""
    sentence = f"Control, {method_name(control).lower()}: {_share(value)} on the adapted plates."
    near = []
    for method in in_order(summary.loc[summary["baseline"] == control, "method"]):
        ahead = _one(summary, (ALL, ALL), method, "adapted", level, "difference", control)
        undefined = ahead is None or np.isnan(ahead["value"])
        if not undefined and method not in CONTROLS and not ahead["low"] > 0:
            near.append(method_name(method) + (" (which it beats)" if ahead["high"] < 0 else ""))
    if near:
        return (
            f"{sentence} Warning: it comes near {', '.join(near)}, so these have not shown that they "
            "read more than this control does."
        )
    return f"{sentence} Every method is clearly above it."


def _one(
    summary: pd.DataFrame,
    pair: tuple[str, str],
    method: str,
    split: str,
    level: str,
    metric: str = "accuracy",
    baseline: str | None = None,
) -> pd.Series | None:
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


def _told(row: pd.Series | None, percent: bool = False) -> str:
    if row is None or np.isnan(row["value"]):
        return ""
    form, factor = ("{:.0f} %", 100) if percent else ("{:.3f}", 1)
    value, low, high = (form.format(factor * row[name]) for name in ("value", "low", "high"))
    return value if np.isnan(row["low"]) else f"{value} [{low}, {high}]"


def _share(row: pd.Series) -> str:
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:.1f} % (95 % interval {low:.1f} to {high:.1f})"


def _points(row: pd.Series) -> str:
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
