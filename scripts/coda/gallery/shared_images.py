"""Plates of a run must not share images: a table copied for two plates makes a held-out plate one that trained."""

import pandas as pd

from coda.columns import PLATE_KEYS
from coda.errors import UserError


def check_plates(indexes: list[pd.DataFrame], roots: list[str]) -> pd.DataFrame:
    """Refuse plates that share images; count what each has.

    Parameters
    ----------
    indexes
        The index of each plate that takes part, with `SITE_KEYS` and ``Key_<channel>``.
    roots
        Below which root the keys of each lie.

    Returns
    -------
    pandas.DataFrame
        One row per plate, in the order of `indexes`: Metadata_Source, Metadata_Plate, ``wells``, ``sites`` and
        ``images``.

    Raises
    ------
    UserError
        If an image belongs to two plates.
    """
    rows, owners = [], {}
    for index, root in zip(indexes, roots, strict=True):
        plate = tuple(index.loc[0, PLATE_KEYS])
        keys = index.filter(regex="^Key_").to_numpy().ravel()
        theirs = owners.setdefault(root, {})
        shared = [key for key in keys if key in theirs]
        if shared:
            one, other = " ".join(theirs[shared[0]]), " ".join(plate)
            raise UserError(
                f"{one} and {other} share {len(shared):,} images (the first: {shared[0]}), but an image belongs to one "
                "plate; correct the load_data of the plate that it does not show, or leave that out (exclude_plates)."
            )
        theirs.update(dict.fromkeys(keys, plate))
        rows.append((*plate, index["Metadata_Well"].nunique(), len(index), len(keys)))
    return pd.DataFrame(rows, columns=[*PLATE_KEYS, "wells", "sites", "images"])
