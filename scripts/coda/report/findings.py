"""The findings of a run in a few sentences, made from the scores alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, SPLIT_NAMES, TARGET_SPLITS, VALIDATION
from coda.evaluation.estimates import ALL
from coda.evaluation.significance import ALPHA
from coda.methods import CONTROLS as WITHOUT_SHAPE
from coda.methods import control_name, method_name
from coda.report.tables import MAIN, score_of, standing, value_text

CONTROLS = (*WITHOUT_SHAPE, "shuffled")
HARMONISED = "harmonised_unadapted"
# Rows that are no method one could choose.
NOT_CHOSEN = (*CONTROLS, "oracle", "in_domain", "chance")
PLURAL = {ADAPTED: "the adapted plates", HELD_OUT: "held-out plates"}
NAMED = 6  # most named in a sentence; the rest are counted


def findings(
    summary: pd.DataFrame, representation: pd.DataFrame | None = None, level: str = "image"
) -> list[str]:
    """Write the findings, one paragraph each; disappointing ones are told as plainly as others.

    Parameters
    ----------
    summary
        `coda.evaluation.scores.Evaluation.summary`.
    representation
        `coda.evaluation.embedding_scores.score_embeddings`.
    level
        ``"image"``, ``"well"`` or ``"compound"``.
    """
    said = [_starting_point(summary, level)]
    methods = set(summary["method"])
    for split in TARGET_SPLITS:
        if MAIN in methods:
            said.append(_adaptation(summary, split, level))
    if HARMONISED in methods:
        said.append(_harmonised(summary, level))
    if {MAIN, "oda"} <= methods:
        said.append(_partners(summary, level))
    said.append(_highest(summary, level))
    said.append(_calibration(summary, level))
    if representation is not None:
        said.append(_features(representation))
    said += [_control(summary, control, level) for control in CONTROLS if control in methods]
    return [sentence for sentence in said if sentence]


def _starting_point(summary: pd.DataFrame, level: str) -> str:
    home = _known(summary, "in_domain", VALIDATION, level)
    guess = _known(summary, "chance", VALIDATION, level)
    away = _known(summary, "unadapted", ADAPTED, level)
    parts = []
    if home is not None:
        chance = (
            f"; always naming the commonest class gives {100 * guess['value']:.1f} %"
            if guess is not None
            else ""
        )
        parts.append(
            "At home, on the held-out plate of its own source, the classifier named the right mechanism of action for "
            f"{_share(home)} of the {level}s{chance}."
        )
    if away is not None:
        parts.append(f"On plates of other sources, unadapted, it did so for {_share(away)}.")
    if home is not None and away is not None:
        drop = home["value"] - away["value"]
        if home["low"] > away["high"]:
            parts.append(f"Changing the source cost {100 * drop:.1f} points.")
        else:
            parts.append(
                "The two intervals overlap, so this run shows no clear gap between sources that adaptation could close."
            )
    return " ".join(parts)


def _adaptation(summary: pd.DataFrame, split: str, level: str) -> str:
    after = _known(summary, MAIN, split, level)
    gain = _known(summary, MAIN, split, level, "difference", "unadapted")
    if after is None or gain is None:
        return ""
    where = (
        "On the adapted plates (transductive: the same images, without their labels)"
        if split == ADAPTED
        else "On held-out plates"
    )
    sentence = (
        f"{where}, CODA reached {_share(after)}, {_points(gain)} over unadapted. {_verdict(gain)}"
        f"{_gap(summary, MAIN, split, level)}"
    )
    return f"{sentence} {_pairs(summary, split, level)}".strip()


def _harmonised(summary: pd.DataFrame, level: str) -> str:
    """Say what harmonised images are good for by themselves, and that they do no harm where there is no shift."""
    seen = [
        split
        for split in (HELD_OUT, ADAPTED)
        if _known(summary, HARMONISED, split, level) is not None
    ]
    gain = _known(summary, HARMONISED, seen[0], level, "difference", "unadapted") if seen else None
    if gain is None:
        return ""
    sentence = (
        f"Harmonised images alone, with nothing trained on the target, gave "
        f"{_share(_known(summary, HARMONISED, seen[0], level))} on {PLURAL[seen[0]]}, {_points(gain)} over unadapted. "
        f"{_verdict(gain, 'harmonisation')}{_gap(summary, HARMONISED, seen[0], level)}"
    )
    before, after = (_known(summary, name, VALIDATION, level) for name in ("in_domain", HARMONISED))
    if before is None or after is None:
        return sentence
    return (
        f"{sentence} On the training source's own held-out plate, where there is no shift to undo, they gave "
        f"{100 * after['value']:.1f} %, against {100 * before['value']:.1f} % as it is."
    )


def _gap(summary: pd.DataFrame, method: str, split: str, level: str) -> str:
    gap = score_of(summary, (ALL, ALL), method, split, level, "gap_closed")
    if gap is None:
        return ""
    if np.isnan(gap["value"]):
        return f" The share of the gap closed is undefined: {gap['reason']}."
    return f" That is {value_text(gap, percent=True)} of the gap to at home."


def _verdict(gain: pd.Series, what: str = "adaptation") -> str:
    if gain["low"] > 0:
        return f"The interval lies above zero: on these compounds {what} helped."
    if gain["high"] < 0:
        return f"The interval lies below zero: on these compounds {what} made it worse."
    return f"The interval includes zero: this run does not show that {what} helps."


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
    significant = rows.loc[rows["p_holm"] < ALPHA, "value"]
    higher, lower = int((significant > 0).sum()), int((significant < 0).sum())
    raised = int((rows["value"] > 0).sum())
    one = rows["seeds"].max() == 1
    between_runs = "; with one seed, p does not include the spread between runs" if one else ""
    return (
        f"It was higher in {raised} of {len(rows)} {_plural('pair', len(rows))}. After Holm's correction for all "
        f"{len(tests)} tests of methods and pairs (over compounds, alpha {100 * ALPHA:.0f} %), the difference is "
        f"significant in {higher + lower}{f', in {lower} of them negative' if lower else ''}{between_runs}."
    )


def _partners(summary: pd.DataFrame, level: str) -> str:
    kept = _known(summary, MAIN, HELD_OUT, level, "difference", "oda")
    seen = _known(summary, MAIN, ADAPTED, level, "difference", "oda")
    if kept is None or seen is None:
        return ""
    # Over compounds, not over wells: what holds for these compounds need not hold for others.
    clear = [row["low"] > 0 and row["p"] < ALPHA for row in (seen, kept)]
    verdict = {2: "partners helped", 0: "tested over compounds, no clear benefit of partners"}.get(
        sum(clear), "a clear benefit on one of the two only"
    )
    return (
        f"Partners from other plates (CODA against ODA): {_points(seen)} on adapted plates and "
        f"{_points(kept)} on held-out plates; {verdict}."
    )


def _highest(summary: pd.DataFrame, level: str) -> str:
    """Name the method with the highest accuracy, on the held-out plate if there is one, with a warning."""
    rows = summary[
        (summary["metric"] == "accuracy")
        & (summary["level"] == level)
        & (summary["train_source"] == ALL)
        & ~summary["method"].isin(NOT_CHOSEN)
    ].dropna(subset="value")
    for split in (HELD_OUT, ADAPTED):
        part = rows[rows["split"] == split]
        if len(part) > 2:
            best = part.loc[part["value"].idxmax()]
            return (
                f"Highest of the {len(part)} methods on the {SPLIT_NAMES[split]}: {method_name(best['method'])}, "
                f"{_share(best)}. It was chosen by this number, which is therefore biased upwards."
            )
    return ""


def _calibration(summary: pd.DataFrame, level: str) -> str:
    ends = [
        _known(summary, method, HELD_OUT, level, "calibration_error")
        for method in ("unadapted", MAIN)
    ]
    if any(end is None for end in ends):
        return ""
    before, after = (100 * end["value"] for end in ends)
    return (
        f"On held-out plates, confidence and accuracy differed by {before:.0f} points before adaptation and by "
        f"{after:.0f} after it (expected calibration error)."
    )


def _features(representation: pd.DataFrame) -> str:
    """Say whether adaptation mixed the sources, and whether mechanisms became easier to find."""
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
        f"Of the nearest wells in feature space, {before:.0f} % were of the same source before adaptation and "
        f"{after:.0f} % after it ({mixed:.0f} % if sources were fully mixed); of those with other compounds, "
        f"{moa_before:.0f} % and {moa_after:.0f} % were of the same mechanism ({random:.0f} % by chance)."
    )


def _control(summary: pd.DataFrame, control: str, level: str) -> str:
    """Compare every method with a control, over compounds, as the wells of a compound are no independent evidence."""
    value = _known(summary, control, ADAPTED, level)
    if value is None:
        return ""
    sentence = f"Control, {control_name(control)}: {_share(value)} on the adapted plates."
    stands = standing(summary[summary["level"] == level], control, ADAPTED, NOT_CHOSEN)
    if not any(stands.values()):
        return sentence
    said = [
        f"{words} {listed(stands[kind])}."
        for kind, words in (
            ("below", "It is above"),
            ("near", "It is close to"),
            ("undefined", "Not comparable, as the difference is undefined:"),
        )
        if stands[kind]
    ]
    if stands["below"] or stands["near"]:
        return (
            f"{sentence} Warning: {' '.join(said)} These methods have not shown that they read more than this control "
            "(the interval over compounds of the difference is not above zero)."
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
    """Mean over pairs of a score, None where it is undefined; see `score_of`."""
    row = score_of(summary, (ALL, ALL), method, split, level, metric, baseline)
    return None if row is None or np.isnan(row["value"]) else row


def _share(row: pd.Series) -> str:
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:.1f} %" + ("" if np.isnan(low) else f" (95 % interval {low:.1f} to {high:.1f})")


def _points(row: pd.Series) -> str:
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} points" + ("" if np.isnan(low) else f" ({low:+.1f} to {high:+.1f})")


def listed(names: Sequence[str], between: str = "; ", most: int = NAMED) -> str:
    """Name the first of many, and count the others."""
    rest = len(names) - most
    return between.join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
