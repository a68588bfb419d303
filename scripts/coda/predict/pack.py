"""A trained pipeline as a pack: written from a finished run, and used on crops from Python.

from coda.predict.pack import Pack

pack = Pack.load("results/demo/packs/source_5/seed_1")
crops = ["results/mine/crops/my_lab/exp7.arrow"]
calls = pack.call(pack.predict(crops))
adapted = pack.adapt(crops, "adapted", epochs=5)
calls = adapted.call(adapted.predict(crops))
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from coda.columns import TRAIN, VALIDATION
from coda.config import network_settings
from coda.crops.harmonisation import (
    harmonise,
    load_spectra,
    measure_spectra,
    save_harmonisations,
    save_spectra,
)
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.evaluation.predict import Pipeline, predict_sites
from coda.evaluation.units import LOGIT, classes_of, on_subset, read_predictions
from coda.files import read_table, write_table
from coda.predict.calls import call_mechanisms
from coda.predict.pack_files import FILES, check_pixel_size, open_pack, verify, write_description
from coda.provenance import code_version
from coda.training.adaptation_data import data_settings
from coda.training.alignment import reference_sites
from coda.training.compute import Machine
from coda.training.pretrain import FoundationJob, train_foundation
from coda.versions import software_versions

THUMBNAIL = 128  # pixels of a side at most
CROPS_OF_COMPOUND, CROPS_OF_CONTROLS = 3, 6
LICENCE = (
    "MIT for the code; images of JUMP-CP in the Cell Painting Gallery are CC0 1.0; mechanisms of action are those of "
    "the Drug Repurposing Hub, for non-commercial use."
)
CARD = """# Pack: {source}, seed {seed}

A classifier of mechanisms of action from Cell Painting images, with all that it takes to use it on other plates:
`pack: PATH` in a config, then `snakemake predict`. It was trained on {sites:,} crops of {source}, channels {channels},
{um:.4g} um per pixel, and tells {count} mechanisms apart:

{classes}

On a plate of the same lab that it was not trained on, {right:.1%} of {held_out:,} images were named rightly (that plate
chose the epoch, so this is optimistic). Elsewhere it is worse; the calls say how far to believe them.

For research; not for diagnosis, nor for any decision about people. A mechanism that is not in the list cannot be named.

Licence: {licence}

Code {code}.
"""


def write_pack(
    files: Mapping[str, str],
    crops: Sequence[str],
    plates: str,
    settings: Mapping[str, Any],
    folder: Path,
    what: Mapping[str, Any],
) -> None:
    """Write a pack from the results of a run.

    Parameters
    ----------
    files
        Paths by their names in `FILES`: ``foundation``, ``networks``, ``task_model``, ``tokens``; ``spectra`` of the
        training source; ``calibration``, predictions of its held-out plate; ``embeddings`` of its training sites.
    crops
        Crop stores of the training plates.
    plates
        Table of the plates with their subsets.
    settings
        The sections of the config that the networks depend on.
    folder
        Where to write; emptied first.
    what
        ``source``, ``seed`` and ``um_per_pixel``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("foundation", "networks", "task_model", "tokens"):
        shutil.copyfile(files[name], folder / FILES[name])
    chosen = read_table(plates)
    trained = set(chosen.loc[chosen["subset"] == TRAIN, "Metadata_Plate"])
    spectra = [each for each in load_spectra(files["spectra"]) if each.plate in trained]
    save_spectra(spectra, folder / FILES["spectra"])
    calibration = read_table(files["calibration"])
    calibration = calibration[on_subset(calibration, chosen, VALIDATION)]
    write_table(calibration, folder / FILES["calibration"])
    embeddings = read_table(files["embeddings"])
    write_table(compound_embeddings(embeddings), folder / FILES["compounds"])
    store = CropStore(list(crops))
    write_table(thumbnails(store), folder / FILES["thumbnails"])
    classes = classes_of(calibration)
    labelled = calibration[calibration["Metadata_moa"].isin(classes)]
    called = labelled[[LOGIT + name for name in classes]].to_numpy().argmax(axis=1)
    right = float((np.array(classes)[called] == labelled["Metadata_moa"]).mean())
    card = CARD.format(
        source=what["source"], seed=what["seed"], sites=len(store), channels=", ".join(store.channels),
        um=what["um_per_pixel"], count=len(classes), classes="\n".join(f"- {name}" for name in classes),
        right=right, held_out=len(labelled), licence=LICENCE, code=code_version(),
    )  # fmt: skip
    (folder / FILES["card"]).write_text(card)
    write_description(
        folder,
        {
            **what,
            "classes": classes,
            "channels": store.channels,
            "settings": dict(settings),
            "in_domain": {"accuracy": right, "images": len(labelled)},
            "licence": LICENCE,
            "code": code_version(),
            "software": software_versions(),
        },
    )


def compound_embeddings(sites: pd.DataFrame) -> pd.DataFrame:
    """Mean embedding of each compound of the training plates, negative controls among them.

    Parameters
    ----------
    sites
        ``Metadata_*``, ``Quality_ok`` and ``Embedding`` of each training site.

    Returns
    -------
    pandas.DataFrame
        Metadata_JCP2022, Metadata_InChIKey, Metadata_pert_iname, Metadata_pert_type, Metadata_moa, Wells (their number)
        and Embedding (float32).
    """
    known = sites.iloc[reference_sites(sites, "all")].dropna(subset="Metadata_JCP2022")
    names = ["Metadata_InChIKey", "Metadata_pert_iname", "Metadata_pert_type", "Metadata_moa"]
    rows = []
    for compound, mine in known.groupby("Metadata_JCP2022", sort=True):
        first = {name: mine[name].iloc[0] for name in names if name in mine}
        wells = len(mine[["Metadata_Plate", "Metadata_Well"]].drop_duplicates())
        mean = np.stack(mine["Embedding"]).mean(axis=0, dtype=np.float64).astype(np.float32)
        rows.append({"Metadata_JCP2022": compound, **first, "Wells": wells, "Embedding": mean})
    return pd.DataFrame(rows)


def thumbnails(store: CropStore) -> pd.DataFrame:
    """A few small crops of each training compound and of the negative controls, to be looked at beside calls.

    Returns
    -------
    pandas.DataFrame
        Metadata_JCP2022, Metadata_pert_iname, Metadata_pert_type, Metadata_moa, Metadata_Plate, Metadata_Well, and
        Pixels: uint8 bytes of (channels, Side, Side), the middle of the crop, shrunk by whole numbers.
    """
    table = store.table.reset_index(drop=True)
    table = table.iloc[reference_sites(table, "all")]
    columns = ["JCP2022", "pert_iname", "pert_type", "moa", "Plate", "Well"]
    columns = [f"Metadata_{name}" for name in columns if f"Metadata_{name}" in table]
    rows = []
    for _, mine in table[table["Metadata_JCP2022"].notna()].groupby("Metadata_JCP2022", sort=True):
        control = mine["Metadata_pert_type"].iloc[0] == "negcon"
        count = min(len(mine), CROPS_OF_CONTROLS if control else CROPS_OF_COMPOUND)
        for index in mine.index[np.linspace(0, len(mine) - 1, count).astype(int)]:
            small = shrunk(store.view(int(index)))
            known = mine.loc[index, columns].to_dict()
            rows.append({**known, "Side": small.shape[-1], "Pixels": small.tobytes()})
    return pd.DataFrame(rows)


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Cut the middle square of a uint8 crop (C, H, W), shrunk by a whole number to about `THUMBNAIL`."""
    factor = max(1, min(pixels.shape[1:]) // THUMBNAIL)
    side = min(min(pixels.shape[1:]) // factor, THUMBNAIL)
    top, left = ((length - side * factor) // 2 for length in pixels.shape[1:])
    middle = pixels[:, top : top + side * factor, left : left + side * factor]
    blocks = middle.reshape(len(pixels), side, factor, side, factor)
    return np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)


@dataclass(frozen=True)
class Pack:
    """A pack that was read, and checked against its own checksums.

    Attributes
    ----------
    folder : Path
        Where it lies.
    description : dict
        What pack.json says.
    foundation : Path
        The weights that predict: the pack's own, or adapted ones.
    """

    folder: Path
    description: dict[str, Any]
    foundation: Path

    @classmethod
    def load(cls, address: str | Path, folder: str | Path = "pack") -> "Pack":
        """Read a pack from a folder, a zip or a web address; what is no folder is unpacked to `folder`.

        Raises
        ------
        UserError
            If there is no pack, or it is broken or of another version.
        """
        place = open_pack(str(address), Path(folder))
        return cls(place, verify(place), place / FILES["foundation"])

    @property
    def classes(self) -> list[str]:
        """The mechanisms of action that it can name."""
        return self.description["classes"]

    def predict(
        self,
        crops: Sequence[str | Path],
        images: str = "harmonised",
        alignment: str | None = "dmso",
        machine: Machine | None = None,
    ) -> pd.DataFrame:
        """Predict the mechanism of action of every crop.

        Parameters
        ----------
        crops
            Crop stores, one a plate.
        images
            ``"harmonised"`` gives them the spectra of the training source's controls first; ``"raw"`` does not.
        alignment
            None, or one of `coda.methods.ALIGNMENTS`: how tokens are brought to those of the training source.
        machine
            What to compute with; by default a GPU where there is one.

        Returns
        -------
        pandas.DataFrame
            One row a crop: ``Metadata_*``, ``Logit_<class>`` and ``Embedding``.

        Raises
        ------
        UserError
            If channels or pixel size do not fit.
        """
        paths = [str(path) for path in crops]
        self.check_fit(paths)
        settings = self.description["settings"]
        pipeline = Pipeline(
            classifier=str(self.folder / FILES["task_model"]),
            depth=settings["classify"]["depth"],
            foundation=str(self.foundation),
            alignment=alignment,
            harmonised=images == "harmonised",
        )
        with tempfile.TemporaryDirectory() as scratch:
            ((_, table),) = predict_sites(
                crops=paths,
                pipelines={"calls": pipeline},
                settings=network_settings(settings),
                machine=machine or whole_machine(),
                what="predict",
                statistics=str(self.folder / FILES["tokens"]) if alignment else None,
                filters=self._filters(paths, Path(scratch)) if pipeline.harmonised else None,
            )
        return table

    def adapt(
        self,
        crops: Sequence[str | Path],
        folder: str | Path,
        adaptation: str = "coda",
        images: str = "harmonised",
        machine: Machine | None = None,
        seed: int = 1,
        **settings: Any,
    ) -> "Pack":
        """Adapt the foundation to plates, without labels; the task model stays as it is.

        Parameters
        ----------
        crops
            Crop stores of the plates.
        folder
            Where the adapted foundation and its log are written.
        adaptation
            ``"coda"``, with positive pairs of the same compound, or ``"oda"``, without.
        images
            ``"harmonised"`` or ``"raw"``, as in `predict`, which is to be given the same.
        machine, seed
            As in `predict`; the seed of the training.
        settings
            Keys of the config's section ``adapt``, such as ``epochs``.

        Returns
        -------
        Pack
            The same pack with the adapted foundation.
        """
        paths, folder = [str(path) for path in crops], Path(folder)
        self.check_fit(paths)
        decided = self.description["settings"]
        sections = {name: decided[name] for name in ("model", "head", "views")}
        filters = self._filters(paths, folder) if images == "harmonised" else None
        job = FoundationJob(
            crops=paths,
            start=str(self.folder / FILES["networks"]),
            outputs={
                "foundation": str(folder / "foundation.safetensors"),
                "log": str(folder / "adaptation.parquet"),
            },
            settings={
                **sections,
                "data": data_settings(adaptation, decided["data"] | {"wells": "treated"}),
                "training": decided["adapt"] | settings,
            },
            seed=seed,
            machine=machine or whole_machine(),
            what="adapt",
            open_crops=partial(HarmonisedStore, filters=filters) if filters else CropStore,
        )
        train_foundation(job)
        return replace(self, foundation=folder / "foundation.safetensors")

    def call(self, predictions: pd.DataFrame, coverage: float = 0.9) -> pd.DataFrame:
        """Call the mechanism of every compound and well, as the workflow does (`coda.predict.calls.call_mechanisms`).

        Parameters
        ----------
        predictions
            From `predict`; Metadata_moa is not looked at.
        coverage
            Share of the sets of mechanisms that shall hold the right one, on plates like the training source's.

        Raises
        ------
        UserError
            If no site has a prediction and is of good quality.
        """
        calibration = read_predictions(self.folder / FILES["calibration"], embeddings=True)
        compounds = read_table(self.folder / FILES["compounds"])
        return call_mechanisms(predictions, calibration, compounds, coverage)

    def check_fit(self, crops: Sequence[str]) -> None:
        """Refuse crops that the networks cannot read.

        Raises
        ------
        UserError
            If channels differ, or a pixel is less than half or more than twice as large as the pack's.
        """
        store = CropStore(crops)
        if store.channels != self.description["channels"]:
            raise UserError(
                f"The crops {crops[0]} have the channels {', '.join(store.channels)}, but the pack reads "
                f"{', '.join(self.description['channels'])}, in this order."
            )
        check_pixel_size(store.settings["um_per_pixel"], self.description, str(crops[0]))

    def _filters(self, crops: Sequence[str], folder: Path) -> str:
        """Write the filters that harmonise each plate to the pack's spectra."""
        training = load_spectra(self.folder / FILES["spectra"])
        settings = self.description["settings"]["harmonise"]
        plates = [
            measure_spectra(
                CropStore([path]), training[0].width, settings["reference"], os.cpu_count() or 1
            )
            for path in crops
        ]
        path = folder / "harmonisation.parquet"
        save_harmonisations([harmonise(plate, training, **settings) for plate in plates], path)
        return str(path)


def whole_machine() -> Machine:
    """A GPU where there is one, or all cores."""
    return Machine(gpus=int(torch.cuda.is_available()), threads=len(os.sched_getaffinity(0)))
