"""Average precision of finding some wells before others, by copairs (Kalinin et al., 2025)."""

import logging

import copairs.map
import numpy as np
import pandas as pd
from copairs.map.normalization import expected_ap
from copairs.matching import UnpairedException

from coda.evaluation.well_profiles import features_of

MOA = "Metadata_moa"
BATCH = 500  # pairs at once: their features fit into a processor's cache
logging.getLogger("copairs").setLevel(logging.WARNING)


def average_precision(rows: pd.DataFrame, **pairs: list[str]) -> pd.DataFrame | None:
    """Average precision of each row by the cosine of its features to those of its pairs.

    Parameters
    ----------
    rows
        Profiles: metadata, Metadata_moa among them, and features. Rows whose features are all 0 point nowhere, so no
        cosine is defined: they are left out.
    pairs
        ``pos_sameby``, ``pos_diffby``, ``neg_sameby`` and ``neg_diffby``, columns as copairs takes them.

    Returns
    -------
    pandas.DataFrame or None
        The rows of a mechanism that have both kinds of pairs, with ``average_precision`` and ``chance`` (its
        expectation for random features); None where nothing makes a pair.
    """
    used = sorted({name for names in pairs.values() for name in names})
    features = rows[features_of(rows)].to_numpy()
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    pointing = lengths.ravel() > 0
    rows, directions = rows[pointing], features[pointing] / lengths[pointing]
    if rows.empty:
        return None
    try:
        found = copairs.map.average_precision(
            rows[[*used, *({MOA} - {*used})]].fillna({MOA: ""}).reset_index(drop=True),
            directions,
            **pairs,
            batch_size=BATCH,
            distance=_dot_products,
            progress_bar=False,
        )
    except UnpairedException:
        return None
    both_kinds = (found["n_pos_pairs"] > 0) & (found["n_total_pairs"] > found["n_pos_pairs"])
    found = found[both_kinds & (found[MOA] != "")]
    counts = found[["n_pos_pairs", "n_total_pairs"]].to_numpy(int)
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    chance = np.array([expected_ap(hits, total - hits) for hits, total in kinds], float)
    return found.assign(chance=chance[kind])


def _dot_products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # Of directions: copairs' own cosine takes the lengths of both wells again for every pair.
    return np.sum(first * second, axis=1)
