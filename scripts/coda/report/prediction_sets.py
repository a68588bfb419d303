"""What the report says of prediction sets: whether they hold the right mechanism as often as was asked for."""

import pandas as pd

from coda.columns import ADAPTED, VALIDATION, source_name, sources_in_order
from coda.evaluation.coverage_table import OF_ALL, OF_MECHANISM, of_compounds
from coda.methods import in_order, method_name


def set_findings(coverage: pd.DataFrame) -> str:
    """Say in words how far sets keep what they promise.

    Parameters
    ----------
    coverage
        `coda.predict.coverage_scores.score_coverage`.
    """
    rows = of_compounds(coverage)
    rows = rows[rows["of"] == OF_ALL]
    asked = coverage["asked"].iloc[0]
    home = rows[rows["split"] == VALIDATION]["coverage"]
    away = rows[rows["split"] == ADAPTED].groupby("method", sort=False)["coverage"]
    least, most = away.min(), away.max()
    each = "; ".join(
        f"{method_name(name)}: {_range(least[name], most[name])}" for name in in_order(least.index)
    )
    at_home = (
        f"At home they held the right mechanism of {_range(home.min(), home.max())} of compounds. "
        if len(home)
        else ""
    )
    return (
        "A call comes with the set of mechanisms that fit. Sets are made to hold the right one for "
        f"{100 * asked:.0f} % of compounds on plates like the training source's held-out plate. {at_home}On other "
        f"labs' plates: {each}. Where that is less than was asked for, a shift between the labs is left. coverage.csv "
        "beside this file tells it of every mechanism and compound, per compound and per well."
    )


def set_table(coverage: pd.DataFrame) -> pd.DataFrame:
    """Tabulate sets of compounds: a row a pair and method, those at home first."""
    means, table = of_compounds(coverage), []
    rows, lowest = (means[means["of"] == of] for of in (OF_ALL, OF_MECHANISM))
    lowest = lowest.sort_values("coverage", kind="stable")
    keys = ["train_source", "target_source", "method", "split"]
    worst = lowest.drop_duplicates(keys).set_index(keys)
    for train in sources_in_order(rows["train_source"]):
        mine = rows[rows["train_source"] == train]
        targets = [train, *sources_in_order(set(mine["target_source"]) - {train})]
        for target in targets:
            found = mine[mine["target_source"] == target].set_index("method")
            for method in in_order(found.index):
                row = found.loc[method]
                least = worst.loc[(train, target, method, row["split"])]
                table.append(
                    {
                        "trained on": source_name(train),
                        "target": "at home" if target == train else source_name(target),
                        "method": method_name(method),
                        "compounds": f"{row['compounds']:.0f}",
                        "hold the right one": f"{row['coverage']:.2f}{_interval(row)}",
                        "mean size": f"{row['set_size']:.1f}",
                        "empty": f"{100 * row['empty']:.0f} %",
                        "too large": f"{100 * row['too_large']:.0f} %",
                        "lowest mechanism": f"{least['name']}: {least['coverage']:.2f}",
                    }
                )
    return pd.DataFrame(table)


def _interval(row: pd.Series) -> str:
    return "" if pd.isna(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]"


def _range(low: float, high: float) -> str:
    ends = [f"{100 * end:.0f} %" for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
