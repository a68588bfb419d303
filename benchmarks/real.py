"""A real pair of labs: crops of single nuclei with classes, both directions (docs/real.md).

FOLDER holds images.npz, whose ``images`` are uint8 (N, H, W) of one channel, and cells.csv with a row each: row, lab,
phase (its class; empty where the other lab has no such class) and cell. No image is copied into the project.

PYTHONPATH=scripts python benchmarks/real.py FOLDER --keep real --seeds 1
PYTHONPATH=scripts python benchmarks/real.py FOLDER --keep real_contrast --seeds 1 --contrast
PYTHONPATH=scripts python benchmarks/real.py FOLDER --keep real_second --seeds 1 --second
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from adaptation import demo_config
from coda.columns import HELD_OUT
from coda.config import network_settings
from coda.crops.harmonisation import (
    bin_width,
    harmonise,
    measure_spectra,
    save_harmonisations,
)
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore, CropWriter
from coda.evaluation.units import LOGIT, classes_of, target_splits
from coda.files import write_table
from coda.training.alignment import measure_tokens
from coda.training.classify import train_classifier
from coda.training.compute import Machine
from coda.training.pretrain import FoundationJob, train_foundation
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import balanced_accuracy_score
from study import StudyWorld, predictions, there
from study_summary import IN_DOMAIN
from table import RESULTS

UM = 1.0  # the size of a pixel is not known; nuclei were scaled to about one size in both labs
HELD_OUT_SHARE = 0.3
CONTRAST_SD = 8.0  # pixels around one whose contrast counts
RESAMPLES = 2000
SECOND_STEPS = {"pretrain": 1750, "classify": 1300, "supervise": 1300}
# Partners are switched off: CODA without them is ODA. No negative controls, so what is aligned is aligned on all.
METHODS = ["unadapted", "harmonised", "coda", "harmonised coda"]
RIVALS = [
    "Linear probe",
    "Linear, CORAL",
    "Linear, Harmony",
    "ResNet",
    "AdaBN",
    "ResNet, harmonised",
    "AdaBN, harmonised",
    "SHOT",
    "SHOT, harmonised",
    "DeepCORAL",
]
RESNET_IN_DOMAIN = f"ResNet, {IN_DOMAIN}"


class RealWorld(StudyWorld):
    """A direction: one lab trains, the other is the target."""

    @property
    def learnt_from(self) -> list[str]:
        """What networks learn from: the training lab's cells."""
        return self.crops(self.home, "train")

    def store(self, source: str, subset: str | None = None, harmonised: bool = False) -> CropStore:
        """Crops of a source, as in the study; what is learnt from at home."""
        if source == self.home and subset == "train":
            return CropStore(self.learnt_from)
        return super().store(source, subset, harmonised)


class SecondRealWorld(RealWorld):
    """The same with the settings of the second run."""

    @property
    def learnt_from(self) -> list[str]:
        """The training lab's cells and their quarter turns, all labelled classes as often; written if not there."""
        path = self.results / "turned" / f"{self.home}.arrow"
        if not path.exists():
            write_turned(CropStore(self.crops(self.home, "train")), path)
        return [str(path)]


def settings(second: bool = False) -> dict:
    """The demo's config, for crops of one channel and 64 pixels without replicates."""
    config = demo_config()
    config["data"] |= {"partners": [], "wells": "all"}
    if second:
        config["views"] |= {"global_size": 64, "local_size": 32, "scale": 1.25}
        config["classify"] |= {"learning_rate": 0.0002}
        return config
    config["views"] |= {"global_size": 48, "local_size": 24}
    return config


def steps_alike(config: dict, world: SecondRealWorld) -> dict:
    """Give trainings of the training lab as many steps of as many images whichever lab it is."""
    table = CropStore(world.learnt_from).table
    images = {"pretrain": len(table), "classify": table["Metadata_moa"].notna().sum()}
    images["supervise"] = images["classify"]
    epochs = {
        part: {"epochs": round(steps * config[part]["batch_size"] / images[part])}
        for part, steps in SECOND_STEPS.items()
    }
    return config | {part: config[part] | changed for part, changed in epochs.items()}


def local_contrast(images: np.ndarray) -> np.ndarray:
    """Divide each pixel (N, H, W), less the mean around it, by the deviation around it; uint8."""
    values = images.astype(np.float32)
    sd = (0, CONTRAST_SD, CONTRAST_SD)
    mean = gaussian_filter(values, sd)
    spread = np.sqrt(np.maximum(gaussian_filter(values**2, sd) - mean**2, 0))
    scaled = (values - mean) / (spread + 2.0)
    return np.clip(np.rint(127.5 + 40 * scaled), 0, 255).astype(np.uint8)


def held_out(cells: pd.Series, seed: int) -> np.ndarray:
    """Mark the images whose cell is held out: all images of a cell are on one side."""
    names = np.sort(cells.unique())
    drawn = np.random.default_rng(seed).permutation(names)[: round(HELD_OUT_SHARE * len(names))]
    return cells.isin(drawn).to_numpy()


def write_stores(folder: Path, images: np.ndarray, table: pd.DataFrame, seed: int) -> None:
    """Write a crop store of each lab's training cells and of its held-out ones, a cell as a well."""
    plates = []
    for lab, rows in table.groupby("lab"):
        apart = held_out(rows["cell"], seed)
        for subset, mine in (("train", rows[~apart]), ("validation", rows[apart])):
            path = folder / "crops" / lab / f"{lab}_{subset}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            sites = mine.groupby("cell").cumcount() + 1
            with CropWriter(path, ["DNA"], *images.shape[1:], {"um_per_pixel": UM}) as writer:
                for (number, row), site in zip(mine.iterrows(), sites, strict=True):
                    writer.write(
                        {
                            "Metadata_Source": lab,
                            "Metadata_Batch": lab,
                            "Metadata_Plate": path.stem,
                            "Metadata_Well": row["cell"],
                            "Metadata_Site": int(site),
                            "Metadata_JCP2022": row["cell"],
                            "Metadata_pert_iname": row["cell"],
                            "Metadata_moa": None if pd.isna(row["phase"]) else row["phase"],
                            "Metadata_pert_type": "trt",
                            "Quality_ok": True,
                        },
                        images[None, None, table.index.get_loc(number)],
                    )
            plates.append((lab, lab, path.stem, subset))
    names = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "subset"]
    write_table(pd.DataFrame(plates, columns=names), folder / "metadata/plates.csv")


def write_turned(store: CropStore, path: Path) -> None:
    """Write every crop of a store and its quarter turn; labelled ones repeated until classes are equally frequent."""
    moa = store.table["Metadata_moa"]
    most = moa.value_counts().max()
    rows = [np.flatnonzero(moa.isna())]
    rows += [np.resize(mine, most) for _, mine in sorted(moa.groupby(moa).indices.items())]
    names = [name for name in store.table if name.startswith(("Metadata_", "Quality_"))]
    table = store.table[names].astype(object).where(store.table[names].notna(), None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with CropWriter(path, store.channels, store.height, store.width, store.settings) as writer:
        for row in np.concatenate(rows):
            for turns in (0, 1):
                crop = np.rot90(store.view(row), turns, axes=(1, 2))
                writer.write(table.iloc[row].to_dict(), crop[None])


def write_filters(world: RealWorld, target: str) -> None:
    """Filters of all plates of a target, or of the held-out cells at home, made of all cells."""

    def spectra(lab: str) -> list:
        width = bin_width([UM], 64)
        return [measure_spectra(CropStore([crops]), width) for crops in world.crops(lab)]

    known = [each for each in spectra(world.home) if each.plate.endswith("train")]
    path = Path(world.filters(target))
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [each for each in spectra(target) if each.plate not in {one.plate for one in known}]
    save_harmonisations([harmonise(each, known, reference="all") for each in made], path)


def train_home(world: RealWorld) -> None:
    """Train foundation and task model of the training lab, as the workflow does; what is there stays."""
    config, folder, what = world.config, world.trained, f"{world.home}, seed {world.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    common = {part: config[part] for part in ("model", "head", "views", "data")}
    crops, own = world.learnt_from, world.crops(world.home, "validation")
    paths = {
        name: str(folder / f"{name}.safetensors")
        for name in ("foundation", "networks", "task_model", "tokens")
    }
    train_foundation(
        FoundationJob(
            crops=crops,
            outputs={
                "foundation": paths["foundation"],
                "networks": paths["networks"],
                "log": str(folder / "pretraining.parquet"),
            },
            settings=common | {"training": config["pretrain"], "knn": config["knn"]},
            seed=world.seed,
            machine=Machine(),
            what=what,
            validation=own,
        )
    )
    train_classifier(
        crops=crops,
        validation=own,
        outputs={"weights": paths["task_model"], "log": str(folder / "task_model.parquet")},
        settings={part: config[part] for part in ("model", "views")}
        | {"training": config["classify"]},
        seed=world.seed,
        machine=Machine(),
        what=what,
        foundation=paths["foundation"],
    )
    if not Path(paths["tokens"]).exists():
        measure_tokens(
            world.crops(world.home, "train"),
            paths["foundation"],
            {"statistics": paths["tokens"], "embeddings": str(folder / "embeddings.parquet")},
            network_settings(config),
            Machine(),
            what,
        )


def balanced(rows: pd.DataFrame, classes: list[str], seed: int = 0) -> tuple[float, float, float]:
    """Balanced accuracy of labelled images, with the limits of a 95 % interval over cells."""
    rows = rows[rows["Metadata_moa"].notna()]
    truth = pd.Index(classes).get_indexer(rows["Metadata_moa"])
    guess = rows[[LOGIT + name for name in classes]].to_numpy().argmax(axis=1)
    cell = pd.factorize(rows["Metadata_Well"])[0]
    random, count = np.random.default_rng(seed), cell.max() + 1
    recalls = []
    for _ in range(RESAMPLES):
        weight = np.bincount(random.integers(count, size=count), minlength=count)[cell]
        per_class = [
            np.average(guess[truth == each] == each, weights=weight[truth == each])
            for each in np.unique(truth)
            if weight[truth == each].any()
        ]
        recalls.append(np.mean(per_class))
    low, high = np.percentile(recalls, [2.5, 97.5])
    return float(balanced_accuracy_score(truth, guess)), float(low), float(high)


def measure(world: RealWorld, target: str, names: list[str]) -> list[dict]:
    """Adapt and predict by each method, and score these and all others that are there already."""
    home = world.predictions("unadapted", world.home)[None]
    classes = classes_of(home)
    common = {"from": world.home, "to": target, "seed": world.seed}
    columns, rows = ("value", "low", "high"), []
    at_home = {IN_DOMAIN: home}
    if "ResNet" in names or there(world, "ResNet"):
        at_home[RESNET_IN_DOMAIN] = predictions(world, world.home, "ResNet")["ResNet"]
    for method, table in at_home.items():
        score = dict(zip(columns, balanced(table, classes), strict=True))
        rows.append(common | {"method": method, "split": HELD_OUT} | score)
    for name in [*METHODS, *RIVALS]:
        if name not in names and not there(world, name):
            continue
        begun = time.process_time()
        found = predictions(world, target, name)
        print(f"{world.home} to {target}: {name}, {time.process_time() - begun:.0f} s", flush=True)
        for method, table in found.items():
            if method.endswith("DMSO"):
                continue
            method = method.replace("coda", "ODA")
            for split, part in target_splits(table, world.plates).items():
                score = dict(zip(columns, balanced(part, classes), strict=True))
                rows.append(common | {"method": method, "split": split} | score)
    return rows


def montage(world: RealWorld, target: str, path: Path) -> None:
    """Draw nuclei of the training lab, of the target as they are, and harmonised: one row each."""
    crops = world.crops(target, "train")
    stores = (
        CropStore(world.crops(world.home, "train")),
        CropStore(crops),
        HarmonisedStore(crops, world.filters(target)),
    )
    rows = []
    for store in stores:
        chosen = np.linspace(0, len(store) - 1, 12).astype(int)
        pixels = store.on_device(torch.from_numpy(store.gather(chosen)), chosen)
        rows.append(np.concatenate(list(pixels[:, 0].numpy()), axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows).clip(0, 255).astype(np.uint8)).save(path)


def main() -> None:
    """Write stores, train on each lab, measure on the other, and write the scores."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path, metavar="FOLDER")
    arguments.add_argument("--keep", type=Path, required=True)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments.add_argument(
        "--contrast", action="store_true", help="enhance local contrast in both labs"
    )
    arguments.add_argument(
        "--second", action="store_true", help="with the settings of the second run"
    )
    arguments.add_argument("--methods", nargs="+", default=[*METHODS, *RIVALS])
    given = arguments.parse_args()
    images = np.load(given.folder / "images.npz")["images"]
    table = pd.read_csv(given.folder / "cells.csv")
    if given.contrast:
        images = local_contrast(images)
    kind, config = SecondRealWorld if given.second else RealWorld, settings(given.second)
    words = "real" + "_contrast" * given.contrast + "_second" * given.second
    rows = []
    for seed in given.seeds:
        folder = given.keep / f"seed_{seed}"
        if not (folder / "metadata/plates.csv").exists():
            write_stores(folder, images, table, seed)
        for home in sorted(table["lab"].unique()):
            for target in sorted(set(table["lab"]) - {home}):
                world = kind(folder, config, folder / "adapted" / home, home, seed)
                if given.second:
                    world = replace(world, config=steps_alike(config, world))
                train_home(world)
                for lab in (target, home):
                    write_filters(world, lab)
                montage(world, target, given.keep / f"{home}_{target}.png")
                rows += measure(world, target, given.methods)
                scores = pd.DataFrame(rows).round(4)
                scores.to_csv(RESULTS / f"{words}_scores.csv", index=False)


if __name__ == "__main__":
    main()
