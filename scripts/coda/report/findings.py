"""What was found, in a few sentences made from the scores alone, the disappointing ones as plainly."""

import numpy as np
import pandas as pd

from coda.columns import SPLIT_NAMES
from coda.evaluation.estimates import ALL
from coda.evaluation.significance import LEVEL
from coda.methods import method_name
from coda.report.tables import MAIN, score_of, standing, told

CONTROLS = ("intensity", "position", "shuffled")
# Rows that are no method one could choose.
NOT_CHOSEN = (*CONTROLS, "oracle", "in_domain", "chance")
NAMED = 6  # methods named in a sentence before the rest are counted


def findings(
    summary: pd.DataFrame, representation: pd.DataFrame | None = None, level: str = "image"
) -> list[str]:
    """Tell what was found.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    representation
        `coda.evaluation.embedding_scores.score_embeddings`.
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
    said.append(_highest(summary, level))
    said.append(_calibration(summary, level))
    if representation is not None:
        said.append(_features(representation))
    said += [_control(summary, control, level) for control in CONTROLS if control in methods]
    return [sentence for sentence in said if sentence]


def _starting_point(summary: pd.DataFrame, level: str) -> str:
    home = _known(summary, "in_domain", "validation", level)
    guess = _known(summary, "chance", "validation", level)
    away = _known(summary, "unadapted", "adapted", level)
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
    after = _known(summary, MAIN, split, level)
    gain = _known(summary, MAIN, split, level, "difference", "unadapted")
    gap = score_of(summary, (ALL, ALL), MAIN, split, level, "gap_closed")
    if after is None or gain is None:
        return ""
    where = (
        "On the plates it adapted to (transductive: the same images, without their labels)"
        if split == "adapted"
        else "On plates kept out of adaptation"
    )
    sentence = f"{where}, CODA reached {_share(after)}, {_points(gain)} against no adaptation. {_verdict(gain)}"
    if gap is not None and not np.isnan(gap["value"]):
        sentence += f" That is {told(gap, percent=True)} of the gap to in domain."
    elif gap is not None:
        sentence += f" The share of the gap closed is undefined: {gap['reason']}."
    return f"{sentence} {_pairs(summary, split, level)}".strip()


def _verdict(gain: pd.Series) -> str:
    if gain["low"] > 0:
        return "The interval lies above zero: on these compounds adaptation helped."
    if gain["high"] < 0:
        return "The interval lies below zero: on these compounds adaptation made it worse."
    return "The interval includes zero: this run does not show that adaptation helps."


def _pairs(summary: pd.DataFrame, split: str, level: str) -> str:
    tests = summary[
        summary["p_holm"].notna()
        & (summary["split"] == split)
        & (summary["level"] == level)
        & (summary["train_source"] != ALL)
    ]
    rows = tests[(tests["method"] == MAIN) & (tests["baseline"] == "unadapted")]
    if rows.empty:
        return ""
    survive = rows.loc[rows["p_holm"] < LEVEL, "value"]
    higher, lower = int((survive > 0).sum()), int((survive < 0).sum())
    raised = int((rows["value"] > 0).sum())
    one = rows["seeds"].max() == 1
    between_runs = "; from one seed, so p knows nothing of the spread between runs" if one else ""
    return (
        f"It was higher in {raised} of {len(rows)} {_plural('pair', len(rows))}. Tested over "
        f"compounds and corrected for all {len(tests)} tests of methods and pairs (Holm, {100 * LEVEL:.0f} %), the "
        f"difference survives in {higher + lower}"
        f"{f', {lower} of them to the worse' if lower else ''}{between_runs}."
    )


def _partners(summary: pd.DataFrame, level: str) -> str:
    kept = _known(summary, MAIN, "held_out", level, "difference", "oda")
    seen = _known(summary, MAIN, "adapted", level, "difference", "oda")
    if kept is None or seen is None:
        return ""
    # Over compounds, not over wells: what holds for the compounds at hand need not hold for others.
    clear = [row["low"] > 0 and row["p"] < LEVEL for row in (seen, kept)]
    verdict = {2: "partners helped", 0: "no clear benefit of partners, tested over compounds"}.get(
        sum(clear), "a clear benefit on one of the two only"
    )
    return (
        f"Partners from other plates (CODA against ODA): {_points(seen)} on adapted plates and "
        f"{_points(kept)} on those kept out; {verdict}."
    )


def _highest(summary: pd.DataFrame, level: str) -> str:
    """Name the method that came out highest where it matters most, with the warning that this needs."""
    rows = summary[
        (summary["metric"] == "accuracy")
        & (summary["level"] == level)
        & (summary["train_source"] == ALL)
        & ~summary["method"].isin(NOT_CHOSEN)
    ].dropna(subset="value")
    for split in ("held_out", "adapted"):
        part = rows[rows["split"] == split]
        if len(part) > 2:
            best = part.loc[part["value"].idxmax()]
            return (
                f"Highest of the {len(part)} methods on the {SPLIT_NAMES[split]}: {method_name(best['method'])}, "
                f"{_share(best)}. It was picked by this very number, which therefore leans high."
            )
    return ""


def _calibration(summary: pd.DataFrame, level: str) -> str:
    ends = [
        _known(summary, method, "held_out", level, "calibration_error")
        for method in ("unadapted", MAIN)
    ]
    if any(end is None for end in ends):
        return ""
    before, after = (100 * end["value"] for end in ends)
    return (
        f"On plates kept out the classifier's confidence missed its accuracy by {before:.0f} points before adaptation "
        f"and by {after:.0f} after it (expected calibration error)."
    )


def _features(representation: pd.DataFrame) -> str:
    """Tell whether adaptation brought the sources together, and whether mechanisms became easier to find."""
    means = representation.groupby(["method", "metric"])[["value", "chance"]].mean(skipna=False)
    wanted = [
        (method, metric)
        for method in ("unadapted", MAIN)
        for metric in ("purity_source", "purity_moa")
    ]
    if not set(wanted) <= set(means.dropna().index):
        return ""
    before, moa_before, after, moa_after = (100 * means["value"].loc[wanted]).to_numpy()
    mixed, random = 100 * means["chance"].loc[wanted[:2]].to_numpy()
    return (
        "In the features themselves, the nearest wells were of the same source in "
        f"{before:.0f} % of cases before adaptation and {after:.0f} % after it ({mixed:.0f} % if sources were mixed), "
        f"and, other compounds only, of the same mechanism in {moa_before:.0f} % and {moa_after:.0f} % "
        f"({random:.0f} % by chance)."
    )


def _control(summary: pd.DataFrame, control: str, level: str) -> str:
    """Compare every method with a control: over compounds, since wells repeat what a compound brings along."""
    value = _known(summary, control, "adapted", level)
    if value is None:
        return ""
    sentence = f"Control, {method_name(control).lower()}: {_share(value)} on the adapted plates."
    stands = standing(summary[summary["level"] == level], control, "adapted", NOT_CHOSEN)
    if not any(stands.values()):
        return sentence
    said = [
        f"{words} {_listed(stands[kind])}."
        for kind, words in (
            ("below", "It lies above"),
            ("near", "It comes near"),
            ("undefined", "Not to be compared with it, as the difference is undefined:"),
        )
        if stands[kind]
    ]
    if stands["below"] or stands["near"]:
        return (
            f"{sentence} Warning: {' '.join(said)} These have not shown that they read more than this control does "
            "(the interval of the difference over compounds does not lie above zero)."
        )
    if stands["above"]:
        others = "other method" if stands["undefined"] else "method"
        said.insert(0, f"Every {others} is clearly above it, over compounds.")
    return f"{sentence} {' '.join(said)}"


def _known(
    summary: pd.DataFrame,
    method: str,
    split: str,
    level: str,
    metric: str = "accuracy",
    baseline: str | None = None,
) -> pd.Series | None:
    """Mean over pairs of a score, None where it is undefined."""
    row = score_of(summary, (ALL, ALL), method, split, level, metric, baseline)
    return None if row is None or np.isnan(row["value"]) else row


def _share(row: pd.Series) -> str:
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:.1f} %" + ("" if np.isnan(low) else f" (95 % interval {low:.1f} to {high:.1f})")


def _points(row: pd.Series) -> str:
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} points" + ("" if np.isnan(low) else f" ({low:+.1f} to {high:+.1f})")


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
