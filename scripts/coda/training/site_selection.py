"""Which rows of the crop store a step uses."""

import numpy as np
import pandas as pd

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.files import read_table
from coda.gallery.labels import class_names

WELLS = ("labelled", "treated", "all")
USED, KEPT_OUT, LEFT_OUT = (
    "used",
    "kept_out",
    "left_out",
)  # roles of compounds; see `coda.evaluation.compound_splits`


def usable_rows(table: pd.DataFrame, wells: str) -> np.ndarray:
    """Rows to train a foundation on: of good quality, from the wells that `wells` names.

    Parameters
    ----------
    table
        The store's table.
    wells
        ``"labelled"``: wells of compounds that have a mechanism of action (the protocol's data set);
        ``"treated"``: all wells of a compound that is no negative control; ``"all"``: every well.

    Raises
    ------
    UserError
        If nothing is left, or `wells` is unknown.
    """
    if wells not in WELLS:
        raise UserError(f"data.wells is {wells!r}; it can be {', '.join(WELLS)}.")
    keep = np.ones(len(table), bool)
    if "Quality_ok" in table:
        keep &= table["Quality_ok"].to_numpy(bool)
    if wells == "labelled":
        keep &= table["Metadata_moa"].notna().to_numpy()
    elif wells == "treated":
        keep &= table["Metadata_JCP2022"].notna().to_numpy()
        keep &= (table["Metadata_pert_type"] != "negcon").to_numpy()
    if not keep.any():
        raise UserError(
            f"No site is left to train on: data.wells is {wells!r} and flagged sites are left out."
        )
    return np.flatnonzero(keep).astype(np.int64)


def check_classes(table: pd.DataFrame, expected: list[str]) -> None:
    """Refuse training plates that do not show every class: what is never seen is never predicted.

    Parameters
    ----------
    table
        The store's table.
    expected
        Classes that the labels and the config's choice lead to expect, besides those in the table.

    Raises
    ------
    UserError
        If a class has no site of good quality.
    """
    classes = sorted({*class_names([table]), *expected})
    _, numbers = labelled_rows(table, classes)
    absent = [name for number, name in enumerate(classes) if number not in set(numbers)]
    if absent:
        sources = ", ".join(sorted(table["Metadata_Source"].unique()))
        raise UserError(
            f"The training plates of {sources} have no site of good quality of {len(absent)} of {len(classes)} classes "
            f"({'; '.join(absent[:5])}{'; ...' if len(absent) > 5 else ''}); choose other classes (choose.moas), "
            f"take more plates (sources, exclude_plates) or widen crops.flags."
        )


def labelled_rows(table: pd.DataFrame, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of good quality that have one of `classes`, and their class numbers.

    Returns
    -------
    rows, numbers : int64 arrays, shape (n,)
    """
    numbers = table["Metadata_moa"].map({name: number for number, name in enumerate(classes)})
    keep = numbers.notna().to_numpy(copy=True)
    if "Quality_ok" in table:
        keep &= table["Quality_ok"].to_numpy(bool)
    rows = np.flatnonzero(keep).astype(np.int64)
    return rows, numbers.to_numpy()[rows].astype(np.int64)


def shuffle_labels(tables: list[pd.DataFrame], seed: int) -> list[pd.DataFrame]:
    """Permute the mechanisms of action between the compounds, the same in all tables.

    Each class keeps its number of compounds, and the wells of a compound stay together, so that what is learned
    from such labels says nothing about mechanisms.
    """
    keys = ["Metadata_JCP2022", "Metadata_moa"]
    known = pd.concat([table[keys] for table in tables]).dropna().drop_duplicates(keys[0])
    known = known.sort_values(keys[0])
    permuted = np.random.default_rng(seed).permutation(known["Metadata_moa"].to_numpy(object))
    moas = dict(zip(known["Metadata_JCP2022"], permuted, strict=True))
    labelled = [table["Metadata_moa"].notna() for table in tables]
    return [
        table.assign(Metadata_moa=table["Metadata_JCP2022"].map(moas).where(has, None))
        for table, has in zip(tables, labelled, strict=True)
    ]


def restrict(store: CropStore, choice: str | None, rows: int | None = None) -> None:
    """Let a step see the compounds in use only, of the crops in `store`, as `restricted` does."""
    store.table = restricted(store.table, choice, rows)


def restricted(crops: pd.DataFrame, choice: str | None, rows: int | None = None) -> pd.DataFrame:
    """Count crops of compounds that are not in use as unlabelled and as unfit.

    Wells that have no mechanism of action, among them the negative controls, stay as they are.

    Parameters
    ----------
    crops
        The store's table, or one made of it.
    choice
        Path of a choice's table; None leaves the crops as they are.
    rows
        So many of the first crops are restricted, where not all are: those of a target, before the training
        source's own.
    """
    if choice is None:
        return crops
    table = read_table(choice, ["Metadata_JCP2022", "role"])
    hidden = table.loc[table["role"] != USED, "Metadata_JCP2022"]
    out = crops["Metadata_JCP2022"].isin(hidden)
    if rows is not None:
        out.iloc[rows:] = False
    fit = crops.get("Quality_ok", True)
    return crops.assign(Metadata_moa=crops["Metadata_moa"].mask(out, None), Quality_ok=fit & ~out)


def proportions_of(table: pd.DataFrame, classes: list[str]) -> list[float]:
    """Give the share of each class among the labelled compounds of a table."""
    keys = ["Metadata_JCP2022", "Metadata_moa"]
    shares = table[keys].dropna().drop_duplicates()["Metadata_moa"].value_counts(normalize=True)
    return [float(shares[name]) for name in classes]
