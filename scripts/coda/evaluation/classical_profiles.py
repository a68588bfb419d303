"""Mechanisms read from measured features of wells, as Cell Painting did before networks.

Profiles of wells are normalised, selected and sphered by pycytominer, or brought together by Harmony (Korsunsky et al.,
Nature Methods 16, 2019; found best by Arevalo et al., Nature Communications 15, 2024, beside Seurat), and read by a
linear classifier.
"""

import numpy as np
import pandas as pd
from harmonypy import run_harmony
from pycytominer import feature_select, normalize
from pycytominer.operations import Spherize
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coda.columns import PLATE_KEYS, TRAIN, WELL_KEYS
from coda.errors import UserError
from coda.evaluation.measured_features import COUNT, PREFIXES
from coda.evaluation.units import LOGIT, on_subset
from coda.training.alignment import reference_sites

FEWEST_CONTROLS = 4  # wells that normalise a plate, or sphere a source
FUDGE = 1.0  # added to singular values of the controls: what they hardly vary in must not outweigh the rest
COMPONENTS = 50  # of the principal components that Harmony brings together
OPERATIONS = ["variance_threshold", "correlation_threshold", "drop_na_columns"]
# In deviations of the controls: a feature in which any well lies further off hardly varies among controls at all.
OUTLIER = 100.0


def predict_from_profiles(
    training: pd.DataFrame, target: pd.DataFrame, plates: pd.DataFrame, classes: list[str], correction: str
) -> pd.DataFrame:  # fmt: skip
    """Predict mechanisms of action from measured features, well by well.

    Features of a plate are normalised by median and median absolute deviation of its negative controls, or of all its
    wells where there are fewer than `FEWEST_CONTROLS` controls. The training plates select features and train the
    classifier.

    Parameters
    ----------
    training, target
        `measured_features` of the training source and of the source to predict, in the order wanted.
    plates
        Metadata_Source, Metadata_Plate and subset.
    classes
        Mechanisms of action, in the order of the logits.
    correction
        ``"none"``; ``"sphered"``, which gives the negative controls of each source mean 0 and covariance 1; or
        ``"harmony"``, which mixes the wells of both sources, and has no way to leave the held-out plate out.

    Returns
    -------
    pandas.DataFrame
        ``Metadata_*`` of `target`, ``Logit_<moa>`` (log probabilities of the site's well, float32) and ``Embedding``.
        Sites of wells without cells are NaN, with a ``Reason``.

    Raises
    ------
    UserError
        If the training plates do not show every class, or a source has too few negative controls to be sphered.
    """
    home, away = (_normalised(_wells(table)) for table in (training, target))
    # The training source itself is a target too, to be predicted on its held-out plate.
    apart = set(home["Metadata_Source"]).isdisjoint(away["Metadata_Source"])
    wells = pd.concat([home, away], ignore_index=True) if apart else home
    learned = on_subset(home, plates, TRAIN)
    features = _selected(home[learned], wells)
    learned &= home["Metadata_moa"].isin(classes).to_numpy()
    absent = sorted(set(classes) - set(home.loc[learned, "Metadata_moa"]))
    if absent:
        raise UserError(
            f"The training plates have no well with cells of {', '.join(absent)}; widen crops.flags."
        )
    values = _corrected(wells, features, correction)
    labels = pd.Index(classes).get_indexer(home.loc[learned, "Metadata_moa"])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    model.fit(values[: len(home)][learned], labels)
    logits = np.log(model.predict_proba(values).clip(np.finfo(np.float64).tiny))
    return _by_site(target, wells, values, logits, classes)


def _wells(sites: pd.DataFrame) -> pd.DataFrame:
    """Medians over the good sites with cells of each well."""
    good = sites.iloc[reference_sites(sites, "all")]
    kept, features = good[good[COUNT] > 0], _features(sites)
    metadata = [
        name for name in sites.columns if name.startswith("Metadata_") and name != "Metadata_Site"
    ]
    grouped = kept.groupby(WELL_KEYS, sort=True)
    return pd.concat([grouped[metadata].first(), grouped[features].median()], axis=1).reset_index(
        drop=True
    )


def _normalised(wells: pd.DataFrame) -> pd.DataFrame:
    """Scale each plate by its negative controls, or by all wells where it has too few."""
    plates = []
    for _, plate in wells.groupby(PLATE_KEYS, sort=True):
        controls = reference_sites(plate, "dmso")
        reference = np.zeros(len(plate), bool)
        reference[controls if len(controls) >= FEWEST_CONTROLS else slice(None)] = True
        plate = plate.assign(Metadata_reference=reference)
        normal = normalize(
            plate,
            features=_features(plate),
            meta_features=[name for name in plate if name.startswith("Metadata_")],
            samples="Metadata_reference == True",
            method="mad_robustize",
            mad_robustize_epsilon=1e-6,
        )
        plates.append(normal.drop(columns="Metadata_reference"))
    return pd.concat(plates, ignore_index=True)


def _selected(training: pd.DataFrame, wells: pd.DataFrame) -> list[str]:
    """Name the features that vary and repeat no other on the training plates, and are sound in all wells."""
    kept = _features(feature_select(training, features=_features(training), operation=OPERATIONS))
    sound = wells[kept].abs().max(skipna=False) < OUTLIER
    if not sound.any():
        raise UserError(
            "No measured feature varies and is defined in all wells; are there cells in the crops?"
        )
    return sound.index[sound].tolist()


def _corrected(wells: pd.DataFrame, features: list[str], correction: str) -> np.ndarray:
    """Bring the wells of the sources together: (wells, dimensions) float64."""
    if correction == "sphered":
        return _sphered(wells, features)
    values = wells[features].to_numpy(np.float64)
    if correction == "none" or wells["Metadata_Source"].nunique() == 1:
        return values
    scaled = StandardScaler().fit_transform(values)
    components = PCA(min(COMPONENTS, *scaled.shape), random_state=0).fit_transform(scaled)
    mixed = run_harmony(components, wells, ["Metadata_Source"], verbose=False, random_state=0)
    return np.asarray(mixed.Z_corr).reshape(components.shape)


def _sphered(wells: pd.DataFrame, features: list[str]) -> np.ndarray:
    """Give the negative controls of each source mean 0 and covariance 1, as far as there are enough to tell."""
    sources = wells["Metadata_Source"]
    controls = {
        source: wells[sources == source].iloc[reference_sites(wells[sources == source], "dmso")][
            features
        ]
        for source in sources.unique()
    }
    for source, rows in controls.items():
        if len(rows) < FEWEST_CONTROLS:
            raise UserError(
                f"{source} has {len(rows)} wells of negative controls, too few to sphere measured features; "
                "take measured_sphered out of methods."
            )
    varied = [name for name in features if all(rows[name].std() > 0 for rows in controls.values())]
    values = np.empty((len(wells), len(varied)))
    for source, rows in controls.items():
        sphere = Spherize(epsilon=FUDGE, method="ZCA-cor", return_numpy=True).fit(rows[varied])
        here = (sources == source).to_numpy()
        values[here] = sphere.transform(wells.loc[here, varied])
    return values


def _by_site(
    sites: pd.DataFrame,
    wells: pd.DataFrame,
    values: np.ndarray,
    logits: np.ndarray,
    classes: list[str],
):
    """Give every site what was said of its well."""
    metadata = sites.filter(regex="^Metadata_").reset_index(drop=True)
    rows = pd.MultiIndex.from_frame(wells[WELL_KEYS]).get_indexer(
        pd.MultiIndex.from_frame(metadata[WELL_KEYS])
    )
    missing = rows < 0
    columns = np.where(missing[:, None], np.nan, logits[rows]).astype(np.float32)
    embedding = np.where(missing[:, None], np.nan, values[rows]).astype(np.float32)
    made = metadata.join(pd.DataFrame(columns, columns=[LOGIT + name for name in classes]))
    made["Embedding"] = list(embedding)
    if missing.any():
        made["Reason"] = np.where(missing, "no cell was found in the well", None)
    return made


def _features(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith(PREFIXES)]
