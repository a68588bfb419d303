"""Which sites an adaptation sees and who is whose partner: CODA, and the variants that question it.

All variants take as many steps as CODA on the same target.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from coda.errors import UserError
from coda.training.loader import epoch_order
from coda.training.partners import Partners, find_partners
from coda.training.site_selection import usable_rows


def data_settings(method: str, data: dict[str, Any]) -> dict[str, Any]:
    """Change the config's section ``data`` to what a method of `coda.methods.ADAPTATIONS` means.

    ``required`` leaves out sites that no rule gives a partner; ``replay`` fills half of each batch from the training
    source, whose sites find their partners there.
    """
    changes = {
        "oda": {"partners": []},
        "coda_batch": {"partners": ["batch"], "required": True},
        "coda_labs": {"partners": ["source", *data["partners"]]},
        "coda_replay": {"replay": True},
    }
    return data | changes.get(method, {})


@dataclass(frozen=True)
class Mixture:
    """The sites of a training.

    Attributes
    ----------
    rows : int64 array, shape (sites,)
        Rows of the store to train on.
    partners : Partners
        By position in `rows`.
    groups : list of int64 arrays
        Positions in `rows` that take turns within a batch.
    budget : int
        Sites an epoch shows: as many as the target has.
    left_out : int
        Sites of the target that have no partner and are not trained on.
    """

    rows: np.ndarray
    partners: Partners
    groups: list[np.ndarray]
    budget: int
    left_out: int = 0

    def describe(self) -> str:
        """Say who is whose partner and who is left out, for the log."""
        left_out = f"; {self.left_out:,} sites without one are left out" if self.left_out else ""
        return self.partners.describe() + left_out


def mix_sites(table: pd.DataFrame, own: int, data: dict[str, Any], seed: int) -> Mixture:
    """Choose sites and partners.

    Parameters
    ----------
    table
        The store's table: the plates to train on, then any of the training source.
    own
        Number of rows of the plates to train on.
    data
        Section ``data`` of the config, as `data_settings` changes it.
    seed
        Which sites come once more, where some stand in for those left out, and how labs meet in a batch.

    Raises
    ------
    UserError
        If partners are required and no site has one.
    """
    random = np.random.default_rng(seed)
    rows = usable_rows(table, data["wells"])
    budget, left_out = int((rows < own).sum()), 0
    sites = table.iloc[rows].reset_index(drop=True)
    if data.get("required"):
        found = np.flatnonzero(find_partners(sites, data["partners"]).rule != "none")
        if not len(found):
            raise UserError(
                f"No site has a partner from another {data['partners'][0]}; take plates of more than one "
                "(sources, gallery), or leave the method out of methods."
            )
        left_out = budget - len(found)
        # The rest stands in for them, so that an epoch keeps its steps.
        rows = rows[np.resize(random.permutation(found), budget)]
        sites = table.iloc[rows].reset_index(drop=True)
    groups = [np.arange(len(rows))]
    if data.get("replay"):
        groups = [np.flatnonzero(rows < own), random.permutation(np.flatnonzero(rows >= own))]
        # A compound of one lab is no partner of the same compound of the other.
        sites["Metadata_JCP2022"] = sites["Metadata_Source"] + "/" + sites["Metadata_JCP2022"]
    return Mixture(rows, find_partners(sites, data["partners"]), groups, budget, left_out)


def mixed_order(groups: list[np.ndarray], seed: int, epoch: int) -> np.ndarray:
    """Positions in the order of one epoch, the groups taking turns; a smaller one comes round again."""
    longest = max(map(len, groups))
    orders = [np.resize(epoch_order(group, seed, epoch), longest) for group in groups]
    return np.stack(orders, axis=1).reshape(-1)
