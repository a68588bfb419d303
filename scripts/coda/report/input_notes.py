"""What ``warnings.csv`` says of a run's inputs, in a few sentences."""

import pandas as pd

from coda.crops import image_copies, nucleus_sizes

NAMED = 3


def doubts(warnings: pd.DataFrame) -> list[str]:
    """Say what puts results in doubt, for the first screen of the report: images that are copies, wrong pixel sizes.

    Parameters
    ----------
    warnings
        The table of ``warnings.csv``: ``kind`` and ``message`` among its columns.

    Returns
    -------
    list of str
        A sentence each; empty where nothing does.
    """
    copies = warnings.loc[warnings["kind"].isin(image_copies.KINDS), "kind"]
    said = []
    if len(copies):
        counts = copies.value_counts()
        kinds = ", ".join(
            f"{counts[kind]:,} in {kind}" for kind in image_copies.KINDS if kind in counts
        )
        said.append(
            f"{len(copies):,} images have the same pixels as another ({kinds}; warnings.csv names them), so images "
            "may be in the wrong place: where a held-out plate is concerned, its accuracy says nothing."
        )
    sizes = warnings.loc[warnings["kind"] == nucleus_sizes.KIND, "message"]
    return said + [message[0].upper() + message[1:] + "." for message in sizes]


def input_notes(warnings: pd.DataFrame) -> list[str]:
    """Say what is odd about the inputs: `doubts` first, then oddities of tables and plates, the first `NAMED` of them.

    Parameters
    ----------
    warnings
        As in `doubts`.
    """
    doubtful = warnings["kind"].isin([*image_copies.KINDS, nucleus_sizes.KIND])
    told = warnings.loc[~doubtful, "message"].tolist()
    said = doubts(warnings)
    if told:
        more = len(told) - NAMED
        rest = f" {more:,} more are in warnings.csv." if more > 0 else ""
        said.append(f"Told of the inputs: {'; '.join(told[:NAMED])}.{rest}")
    return said
