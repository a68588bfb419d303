"""Scores of the features themselves, without a classifier: retrieval, mixing of batches, separation of mechanisms.

They are computed on well profiles, each feature standardised over the wells compared. Labels are used for scoring
only; nothing is trained or chosen by them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_samples

from coda.columns import VALIDATION
from coda.evaluation.bootstrap import draws, interval
from coda.evaluation.metrics import Score
from coda.evaluation.retrieval import MOA, average_precision
from coda.evaluation.units import on_subset
from coda.evaluation.well_profiles import features_of, read_profiles
from coda.files import read_table
from coda.methods import COMPOSED, PROBES
from coda.progress import track

NEIGHBOURS = 15
ROUNDING = 1e-6  # relative; features are stored in 32 bits
SAME = "the features of all wells are the same"
COMPOUND = "Metadata_JCP2022"
RUN = ("train_source", "target_source", "seed", "method")
METRICS = (
    "map_replicates",
    "map_moa",
    "silhouette_source",
    "silhouette_batch",
    "silhouette_moa",
    "purity_source",
    "purity_batch",
    "purity_moa",
)


class Scored(NamedTuple):
    """Values of a metric for single units, what they belong together by, and what chance would give."""

    values: np.ndarray
    groups: np.ndarray
    chance: float | None = None


def score_embeddings(
    folder: str | Path, plates: pd.DataFrame, replicates: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Score the profiles of every method on every target, of what was trained on a source with one seed.

    Of the training source only the held-out plate counts, by the profiles that `home_of` names. Where the
    run has none of those, only retrieval on the target is scored.

    Parameters
    ----------
    folder
        Profiles: ``<source>/seed_<n>``, below it ``<method>/<target>``.
    plates
        Metadata_Source, Metadata_Plate and subset.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        train_source, target_source, seed and method, then the columns of `score_representation`.
    """
    folder, tables = Path(folder), []
    source, run = folder.parent.name, int(folder.name.removeprefix("seed_"))
    targets = [path for path in sorted(folder.glob("*/*")) if path.name != source]
    for path in track(targets, f"score profiles of {source}", len(targets), "profiles"):
        wanted, there = _plates(folder / "unadapted" / path.name), _plates(path)
        if there != wanted:  # on some plates only it could not be compared with the other methods
            lacking = f"no features of {len(wanted - there)} of {len(wanted)} plates"
            reason = Score(float("nan"), lacking)
            scores = _table(dict.fromkeys(METRICS, reason), replicates, seed)
        else:
            home = _home(folder, path.parent.name, plates)
            scores = score_representation(home, read_profiles(path), replicates, seed)
        names = [source, path.name, run, path.parent.name]
        for place, (name, value) in enumerate(zip(RUN, names, strict=True)):
            scores.insert(place, name, value)
        tables.append(scores)
    return pd.concat(tables, ignore_index=True)


def home_of(name: str) -> list[str]:
    """Name the methods whose profiles of the training source hold the same features as `name` has of a target.

    A method that is itself shown on the training source is its own. An adapted network is compared with the one that
    it started from, sphered where the target's features are. Aligned tokens of the target were brought to the
    unaligned ones of the training source, so they are compared with these.
    """
    method = COMPOSED[name]
    if method.at_home or method.adaptation == "oracle":
        return [name]
    if method.sphered:  # by whatever probe
        return [f"unadapted_{probe}" for probe in PROBES if probe.endswith("_sphered")]
    return ["supervised" if method.head == "supervised" else "unadapted"]


def _home(folder: Path, method: str, plates: pd.DataFrame) -> pd.DataFrame | str:
    """Profiles of the training source's held-out plate to compare a method's with, or why there are none."""
    names = home_of(method)
    for home in (folder / name / folder.parent.name for name in names):
        if _plates(home):
            wells = read_profiles(home)
            kept = wells[on_subset(wells, plates, VALIDATION)]
            if len(kept):
                return kept
    return f"no features of the training source's held-out plate by {' or '.join(names)}"


def read_representation(path: str | Path) -> pd.DataFrame:
    """Read the scores back from CSV, numbers as numbers."""
    numbers = dict.fromkeys(("value", "low", "high", "chance"), float) | {"seed": int, "n": int}
    return read_table(path).astype(numbers)


def score_representation(
    home: pd.DataFrame | str, target: pd.DataFrame, replicates: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Score the features of a target, by themselves and together with those of the training source.

    Parameters
    ----------
    home
        Well profiles of the training source, from the foundation that the classifier was trained on; or why
        there are none, which then is the reason of all but ``map_*``.
    target
        Well profiles of the target, from the foundation that predicts it.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        A row a metric: metric, value, low, high, chance (the expectation for random features, empty for
        silhouettes), n (compounds, mechanisms or wells averaged) and reason, where there is no value:

        - ``map_replicates``: mean average precision of finding a compound's wells on other plates before the
          DMSO wells of the plate; mean over compounds
        - ``map_moa``: the same for other compounds of the mechanism before those of other mechanisms, on the
          mean profile of each compound; mean over mechanisms (Kalinin et al., 2025)
        - ``silhouette_*``: -1 to 1, high where wells lie near those of their own source, batch or mechanism
          (Rousseeuw, 1987)
        - ``purity_*``: share of the `NEIGHBOURS` nearest wells with the same source, batch or mechanism; for
          mechanisms wells of the same compound do not count as neighbours

        Low is good mixing for source and batch; high is good separation for mechanisms. Intervals resample
        mechanisms (``map_moa``) or compounds (all others).
    """
    if not _differ(target):
        return _table(dict.fromkeys(METRICS, Score(float("nan"), SAME)), replicates, seed)
    wells = _standardised(target)
    found: dict[str, Scored | Score] = {
        "map_replicates": _replicates(wells),
        "map_moa": _mechanisms(wells[wells[MOA].notna()]),
    }
    if isinstance(home, str):
        lacking = dict.fromkeys(METRICS, Score(float("nan"), home))
        return _table(lacking | found, replicates, seed)
    both = pd.concat([home, target], ignore_index=True)
    both = _standardised(both[both[MOA].notna()])
    both["batch"] = both["Metadata_Source"] + "/" + both["Metadata_Batch"]
    distances = squareform(pdist(both[features_of(both)].to_numpy()))
    order = np.argsort(distances, axis=1, kind="stable")
    for what, column in (("source", "Metadata_Source"), ("batch", "batch"), ("moa", MOA)):
        found[f"silhouette_{what}"] = _silhouette(distances, both, column)
        found[f"purity_{what}"] = _purity(order, both, column)
    return _table(found, replicates, seed)


def _plates(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.parquet")}


def _differ(wells: pd.DataFrame) -> bool:
    """Tell whether any feature differs between wells; a control that knows none of them gives all the same."""
    features = wells[features_of(wells)].to_numpy(np.float64)
    spread, size = np.ptp(features, axis=0), np.abs(features).max(axis=0)
    return bool((spread > ROUNDING * size).any())


def _standardised(wells: pd.DataFrame) -> pd.DataFrame:
    features = wells[features_of(wells)].astype(np.float64)
    spread = features.std(ddof=0)
    scaled = (features - features.mean()) / spread.where(spread > 0, 1.0)
    return pd.concat([wells.filter(regex="^Metadata_"), scaled], axis=1)


def _replicates(wells: pd.DataFrame) -> Scored | Score:
    dmso = wells["Metadata_pert_type"] == "negcon"
    rows = wells[wells[MOA].notna() | dmso]
    found = average_precision(
        rows,
        pos_sameby=[COMPOUND],
        pos_diffby=["Metadata_Plate"],
        neg_sameby=["Metadata_Plate"],
        neg_diffby=["Metadata_pert_type"],
    )
    reason = "needs a compound on two plates and DMSO wells beside it"
    return _mean_by(found, COMPOUND, reason) if found is not None else Score(float("nan"), reason)


def _mechanisms(labelled: pd.DataFrame) -> Scored | Score:
    features = features_of(labelled)
    compounds = labelled.groupby([COMPOUND, MOA])[features].mean().reset_index()
    found = average_precision(
        compounds, pos_sameby=[MOA], pos_diffby=[], neg_sameby=[], neg_diffby=[MOA]
    )
    reason = "needs a mechanism with two compounds and another mechanism"
    return _mean_by(found, MOA, reason) if found is not None else Score(float("nan"), reason)


def _mean_by(found: pd.DataFrame, column: str, reason: str) -> Scored | Score:
    if found.empty:
        return Score(float("nan"), reason)
    means = found.groupby(column)[["average_precision", "chance"]].mean()
    return Scored(
        means["average_precision"].to_numpy(), means.index.to_numpy(), means["chance"].mean()
    )


def _silhouette(distances: np.ndarray, wells: pd.DataFrame, column: str) -> Scored | Score:
    kinds = wells[column].nunique()
    if not 1 < kinds < len(wells):
        return Score(float("nan"), f"{kinds} {_word(column, kinds)} among {len(wells)} wells")
    values = silhouette_samples(distances, wells[column], metric="precomputed")
    return Scored(values, wells[COMPOUND].to_numpy())


def _purity(order: np.ndarray, wells: pd.DataFrame, column: str) -> Scored | Score:
    """Share of the nearest wells with the same label, and that share among all wells that may be neighbours.

    `order` lists for every well all wells, nearest first.
    """
    kinds = wells[column].nunique()
    if kinds < 2:
        return Score(float("nan"), f"{kinds} {_word(column, kinds)} among {len(wells)} wells")
    apart = np.eye(len(wells), dtype=bool)
    if column == MOA:
        apart = wells[COMPOUND].to_numpy()[:, None] == wells[COMPOUND].to_numpy()
    same = wells[column].to_numpy()[:, None] == wells[column].to_numpy()
    counted = min(NEIGHBOURS, int((~apart).sum(axis=1).min()))
    may = np.take_along_axis(~apart, order, axis=1)
    first = may & (np.cumsum(may, axis=1, dtype=np.int32) <= counted)
    nearest = order[first].reshape(len(order), counted)
    chance = (same & ~apart).sum(axis=1) / (~apart).sum(axis=1)
    values = np.take_along_axis(same, nearest, axis=1).mean(axis=1)
    return Scored(values, wells[COMPOUND].to_numpy(), float(chance.mean()))


def _word(column: str, count: int) -> str:
    word = {MOA: "mechanism", "batch": "batch"}.get(column, "source")
    return word if count == 1 else {"batch": "batches"}.get(word, word + "s")


def _table(found: dict[str, Scored | Score], replicates: int, seed: int) -> pd.DataFrame:
    return pd.DataFrame([_row(metric, found[metric], replicates, seed) for metric in METRICS])


def _row(metric: str, found: Scored | Score, replicates: int, seed: int) -> dict:
    if isinstance(found, Score):
        empty = {"value": np.nan, "low": np.nan, "high": np.nan, "chance": np.nan}
        return {"metric": metric, **empty, "n": 0, "reason": found.reason}
    _, group = np.unique(found.groups, return_inverse=True)
    sums, sizes = np.bincount(group, found.values), np.bincount(group)
    weights = draws("profiles", len(sizes), replicates, seed)
    low, high = interval((weights @ sums) / (weights @ sizes))
    return {
        "metric": metric,
        "value": float(found.values.mean()),
        "low": low,
        "high": high,
        "chance": np.nan if found.chance is None else found.chance,
        "n": len(found.values),
        "reason": None,
    }
