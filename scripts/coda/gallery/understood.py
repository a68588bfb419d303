"""What was understood of a plate of one's own, in words, to be read before anything runs."""

from collections.abc import Sequence

import pandas as pd

from coda.gallery.input_warnings import warnings_of
from coda.logs import some


def describe_plate(index: pd.DataFrame, channels: Sequence[str]) -> str:
    """Describe the index of a plate for a terminal.

    Parameters
    ----------
    index
        As `coda.gallery.site_index.index_plate` gives it, with the warnings that were told.
    channels
        Names of the channels.

    Returns
    -------
    str
        Its wells, sites and compounds, which well, site and channel its first files show, and what could not be
        placed or is odd.
    """
    first = index.iloc[0]
    wells = index.drop_duplicates("Metadata_Well")
    sites = index.groupby("Metadata_Well").size()
    each = f"{sites.min()}" if sites.nunique() == 1 else f"{sites.min()} to {sites.max()}"
    kinds = wells.groupby("Metadata_pert_type", dropna=False)
    lines = [
        f"{first['Metadata_Source']} {first['Metadata_Plate']} (batch {first['Metadata_Batch']})",
        f"  {len(wells)} well(s), {wells['Metadata_Well'].iloc[0]} to {wells['Metadata_Well'].iloc[-1]}, with {each} "
        f"site(s) each: {len(index)} sites",
    ]
    for kind, words in (
        ("trt", "treated"),
        ("negcon", "negative control"),
        ("poscon", "positive control"),
    ):
        if kind in kinds.groups:
            rows = kinds.get_group(kind)
            held = rows["Metadata_JCP2022"]
            lines.append(
                f"  {len(rows)} {words} well(s) with {held.nunique()} compound(s): {some(held, 5)}"
            )
    if without := int(wells["Metadata_JCP2022"].isna().sum()):
        lines.append(f"  {without} well(s) without a compound")
    place = f"{first['Metadata_Well']} site {first['Metadata_Site']}"
    lines += [f"  {place} {channel}: {first[f'Key_{channel}']}" for channel in channels]
    lines += [f"  Note: {message}" for message in warnings_of(index)["message"]]
    return "\n".join(lines)
