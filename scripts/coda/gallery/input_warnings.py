"""Warnings about the tables of a run, kept in the Parquet file that a job makes of them."""

import pandas as pd

from coda.columns import SITE_KEYS

TABLES = "tables"  # kind of these warnings
# Names of attributes, which pandas writes into the file's metadata.
NAME, MISSING_SITES = "warnings", "missing_sites"


def keep_warnings(table: pd.DataFrame, messages: list[str], missing: int = 0) -> pd.DataFrame:
    """Give `table` the messages that were told while it was made, and how many sites it should have besides."""
    table = table.copy(deep=False)
    table.attrs = {NAME: messages, MISSING_SITES: missing}
    return table


def missing_sites(index: pd.DataFrame) -> int:
    """Give how many planned sites of a plate its index lacks: they count among those lost later."""
    return index.attrs.get(MISSING_SITES, 0)


def warnings_of(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table's warnings: `SITE_KEYS` as far as they are known, ``kind`` (`TABLES`) and ``message``."""
    plate = {key: table[key].iloc[0] for key in SITE_KEYS[:2] if key in table}
    rows = [plate | {"kind": TABLES, "message": told} for told in table.attrs.get(NAME, [])]
    return pd.DataFrame(rows, columns=[*SITE_KEYS, "kind", "message"], dtype=object)
