"""Choices of compounds and of mechanisms of action that an experiment lets a step see.

A choice is a table with one row a compound: Metadata_JCP2022, Metadata_pert_iname, Metadata_moa and
``role``. A step sees the compounds whose role is ``used``; those whose role is ``kept_out`` are what an
experiment then tests on or leaves away; ``left_out`` is what the experiment cannot use at all.
"""

import zlib

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from coda.errors import UserError
from coda.gallery.labels import BLOCK
from coda.training.site_selection import KEPT_OUT, LEFT_OUT, USED


def choose_compounds(compounds: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Choose a share of each mechanism's compounds for the classifier to learn from.

    What has one name or one skeleton (the first letters of the InChIKey: stereoisomers) counts as
    one compound and stays on one side. Every mechanism has at least one compound on each side; one
    that has a single compound is left out, as is a compound that no site fit for training shows.

    Parameters
    ----------
    compounds
        Labelled compounds: Metadata_JCP2022, Metadata_InChIKey, Metadata_pert_iname, Metadata_moa and
        ``fit``, whether there is a site of good quality to learn it from.
    share
        Share of the compounds to learn from, between 0 and 1, rounded half up.
    seed
        Seed of the draw. Each mechanism is drawn by itself, so others do not change its choice.

    Raises
    ------
    UserError
        If no mechanism has two compounds.
    """
    compounds = compounds.sort_values("Metadata_JCP2022", ignore_index=True)
    same = _same_compound(compounds)
    role = pd.Series(LEFT_OUT, index=compounds.index)
    for moa, rows in compounds[compounds["fit"]].groupby("Metadata_moa"):
        numbers = same[rows.index].unique()
        if len(numbers) > 1:
            count = int(np.clip(np.floor(share * len(numbers) + 0.5), 1, len(numbers) - 1))
            random = np.random.default_rng([seed, zlib.crc32(str(moa).encode())])
            used = random.permutation(numbers)[:count]
            role[rows.index] = np.where(same[rows.index].isin(used), USED, KEPT_OUT)
    if not (role == USED).any():
        raise UserError(
            "No mechanism of action has two compounds with sites of good quality on the training plates, so none can "
            "be kept from the classifier; take compounds out of experiments.run."
        )
    return _as_choice(compounds, role)


def choose_mechanisms(compounds: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose half of the mechanisms of action (rounded down, at least one), with all of their compounds.

    Parameters
    ----------
    compounds, seed
        As in `choose_compounds`, less ``fit``: it is another source whose sites are chosen.
    """
    compounds = compounds.sort_values("Metadata_JCP2022", ignore_index=True)
    names = sorted(compounds["Metadata_moa"].unique())
    used = np.random.default_rng(seed).permutation(names)[: max(1, len(names) // 2)]
    role = compounds["Metadata_moa"].isin(used).map({True: USED, False: KEPT_OUT})
    return _as_choice(compounds, role)


def _same_compound(compounds: pd.DataFrame) -> pd.Series:
    """Number the groups of rows that are linked by a name or a skeleton."""
    names = compounds["Metadata_pert_iname"].str.lower().str.split("|").explode()
    skeletons = compounds["Metadata_InChIKey"].str[:BLOCK].dropna()
    links = pd.concat(["name " + names, "skeleton " + skeletons])
    codes = pd.factorize(links)[0]
    shape = len(compounds), codes.max() + 1
    member = csr_array((np.ones(len(links)), (links.index, codes)), shape)
    return pd.Series(connected_components(member @ member.T, directed=False)[1])


def _as_choice(compounds: pd.DataFrame, role: pd.Series) -> pd.DataFrame:
    names = ["Metadata_JCP2022", "Metadata_pert_iname", "Metadata_moa"]
    return compounds[names].assign(role=role)
