"""Doses that are spelt in several ways, so that wells with one treatment count as wells with several."""

import re
import unicodedata

import pandas as pd

from coda.columns import SITE_KEYS
from coda.gallery.platemap import AT, plain_number
from coda.logs import some

KIND = "doses"


def check_doses(wells: pd.DataFrame) -> pd.DataFrame:
    """Find compounds with treatments that only the spelling of their dose tells apart, on any plates.

    Treatments are not merged: that a dose is the same is guessed.

    Parameters
    ----------
    wells
        Of all plates, with Metadata_JCP2022 as `coda.gallery.platemap.read_platemap` gives it; rows may repeat.

    Returns
    -------
    pandas.DataFrame
        One row a dose: `SITE_KEYS` (unknown), ``kind`` (`KIND`) and ``message``.
    """
    treatments = wells["Metadata_JCP2022"].dropna().drop_duplicates().astype("str")
    parts = treatments[treatments.str.contains(AT, regex=False)].str.rsplit(AT, n=1)
    table = pd.DataFrame({"compound": parts.str[0], "dose": parts.str[1]})
    table["meant"] = table["dose"].map(plain_dose)
    apart = table[table.duplicated(["compound", "meant"], keep=False)]
    rows = []
    for _, mine in apart.groupby("meant", sort=True):
        spellings = some(map(repr, mine["dose"]))
        compounds = mine["compound"].unique()
        rows.append(
            {
                "kind": KIND,
                "message": f"a dose is spelt {spellings}, so {len(compounds)} compound(s) ({some(compounds, 3)}) count "
                "as several treatments: spell it one way in the platemaps",
            }
        )
    return pd.DataFrame(rows, columns=[*SITE_KEYS, "kind", "message"], dtype=object)


def plain_dose(dose: str) -> str:
    """Write a dose in small letters without spaces, its number and the sign of micro in one way.

    >>> plain_dose("10 µM"), plain_dose("10.0uM")
    ('10um', '10um')
    """
    letters = unicodedata.normalize("NFKC", dose).casefold().replace("μ", "u")
    number, unit = re.fullmatch(r"([\d.,]*)(.*)", re.sub(r"\s", "", letters)).groups()
    return plain_number(number) + unit
