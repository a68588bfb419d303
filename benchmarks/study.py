"""The study of worlds that nobody has seen (docs/study.md): the method, others of this project and rivals.

Each folder holds the results of one world, in which what is trained on the training source is there already. What is
trained for a target and all predictions are made once, into the folder --keep, so that a run that was stopped goes on.

PYTHONPATH=scripts python benchmarks/study.py --keep study results/world_4 ... results/world_8
PYTHONPATH=scripts python benchmarks/study.py --keep study --knockouts results/knockouts
PYTHONPATH=scripts python benchmarks/study.py --keep study --second results/world_9 ... results/world_13
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from adaptation import ALIGNMENTS, VARIANTS, World, accuracy, demo_config, described, slug
from coda.columns import HELD_OUT, VALIDATION
from coda.config import network_settings
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.evaluation.classical_profiles import predict_from_profiles
from coda.evaluation.measured_features import measured_features
from coda.evaluation.predict import Pipeline, predict_sites
from coda.evaluation.probes import predict_probe
from coda.evaluation.units import (
    LOGIT,
    Units,
    classes_of,
    on_subset,
    read_predictions,
    target_units,
    units,
)
from coda.files import read_table, write_table
from coda.predict.coverage import Calibration, calibrate
from coda.predict.coverage_scores import sets_of
from coda.training.checkpoints import read_header
from coda.training.classify import train_classifier
from coda.training.compute import Machine
from coda.training.inference import apply_to_sites
from coda.training.networks import load_foundation, load_task_model
from coda.training.settings import AdaptSettings, ModelSettings, TaskSettings, ViewSettings
from coda.training.site_selection import usable_rows
from coda.training.supervised_consensus import adapt_to_consensus
from coda.training.tent import adapt_supervised
from rivals import (
    SitesOfOnePlate,
    build_resnet,
    coral,
    coral_by_controls,
    deep_coral,
    harmony,
    labelled_sites,
    logits_by_batch_norms,
    shot,
    standardised,
    train_resnet,
)
from safetensors.torch import load_file, save_file
from study_summary import BEFORE_SECOND, COVERAGE, METHOD, SECOND
from table import RESULTS

NOT_BALANCED = f"{METHOD}, not balanced"


class StudyWorld(World):
    """One world, and what rivals need of it."""

    @cached_property
    def size(self) -> int:
        """Side of a view."""
        return self.config["views"]["global_size"]

    @cached_property
    def classes(self) -> list[str]:
        """Mechanisms, in the order of logits."""
        return read_header(self.classifier)["classes"]

    @property
    def compute(self):
        """Where networks compute."""
        return Machine().compute()

    @cached_property
    def targets(self) -> list[str]:
        """Sources that are no training source."""
        return [name for name in self.plates["Metadata_Source"].unique() if name != self.home]

    def store(self, source: str, subset: str | None = None, harmonised: bool = False) -> CropStore:
        """Crops of a source; at home of its held-out plate unless `subset` says others."""
        if source == self.home and subset is None:
            subset = VALIDATION
        crops = self.crops(source, subset)
        return HarmonisedStore(crops, self.filters(source)) if harmonised else CropStore(crops)

    def embeddings(self, source: str) -> pd.DataFrame:
        """Predictions of the unadapted pipeline with embeddings."""
        self.predictions("unadapted", source)
        path = self.keep / "predictions" / source / "unadapted/None.parquet"
        return read_predictions(path, embeddings=True)

    @cached_property
    def known(self) -> pd.DataFrame:
        """Embeddings of the training plates."""
        return read_table(self.trained / "embeddings.parquet")

    def networks(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Foundation and task model of the training source."""
        model, channels = ModelSettings(**self.config["model"]), len(self.store(self.home).channels)
        depth = self.config["classify"]["depth"]
        return (
            load_foundation(
                str(self.trained / "foundation.safetensors"), model, channels, self.size
            ),
            load_task_model(self.classifier, model, channels, self.size, depth),
        )

    @property
    def adapt(self) -> AdaptSettings:
        """Settings of an adaptation."""
        return AdaptSettings(**self.config["adapt"])

    @property
    def views(self) -> ViewSettings:
        """Settings of views."""
        return ViewSettings(**self.config["views"])


def as_predictions(store: CropStore, classes: list[str], logits: torch.Tensor) -> pd.DataFrame:
    """Predictions of all sites of a store, as those of the workflow are."""
    names = [LOGIT + name for name in classes]
    table = store.table.filter(regex="^Metadata_").reset_index(drop=True)
    return table.join(pd.DataFrame(logits.numpy(), columns=names))


def linear(world: StudyWorld, target: str, bring: Callable | None = None, sphered: bool = False):
    """Logistic regression on embeddings, which `bring` brings together."""
    known, asked = world.known, world.embeddings(target)
    if bring:
        one, other = bring(known, asked)
        known, asked = known.assign(Embedding=list(one)), asked.assign(Embedding=list(other))
    return predict_probe(known, asked, "linear", sphered, world.config["knn"])


def stacked(table: pd.DataFrame) -> np.ndarray:
    """Embeddings (sites, width)."""
    return np.stack(list(table["Embedding"])).astype(float)


def by_coral(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The training source's embeddings, coloured like the target's, and those."""
    return coral(stacked(known), stacked(asked)), standardised(stacked(asked))


def by_controls(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The target's embeddings mapped by controls."""
    return stacked(known), coral_by_controls(asked, known)


def by_harmony(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Both, mixed by Harmony."""
    labs = np.concatenate([known["Metadata_Source"], asked["Metadata_Source"]])
    mixed = harmony(np.concatenate([stacked(known), stacked(asked)]), labs)
    return mixed[: len(known)], mixed[len(known) :]


def supervised(world: StudyWorld, target: str, tent: bool = False) -> pd.DataFrame:
    """Predict by the network trained end to end, adapted by TENT or not."""
    weights = str(world.trained / "supervised.safetensors")
    settings = network_settings(world.config, "supervise")
    if tent:
        folder = world.keep / target / "TENT"
        folder.mkdir(parents=True, exist_ok=True)
        adapted = {
            "weights": str(folder / "tent.safetensors"),
            "log": str(folder / "log.parquet"),
        }
        own = {"training": world.config["tent"], "wells": world.config["data"]["wells"]}
        crops = world.crops(target, "train")
        adapt_supervised(crops, weights, adapted, settings | own, world.seed, Machine(), target)
        weights = adapted["weights"]
    made = predict_sites(
        crops=[str(path) for path in world.store(target).paths],
        pipelines={"supervised": Pipeline(weights, settings["depth"])},
        settings=settings,
        machine=Machine(),
        what=target,
    )
    return next(iter(made))[1].drop(columns="Embedding")


def resnet(
    world: StudyWorld, target: str, own: bool, by_plates: bool = False, harmonised: bool = False
) -> pd.DataFrame:
    """Predict by a ResNet, with statistics of batch norms as trained or of the target's plates."""
    path = world.keep / f"resnet{'_by_plates' * by_plates}.safetensors"
    home = world.store(world.home, "train")
    sites = labelled_sites(home, world.classes)
    if by_plates:
        sites = SitesOfOnePlate(home, sites.sites, sites.classes)
    task = TaskSettings(**world.config["supervise"])
    if not path.exists():
        made = train_resnet(sites, task, world.views, len(world.classes), world.compute, world.seed)
        save_file(made.state_dict(), path)
    network = build_resnet(len(home.channels), len(world.classes))
    network.load_state_dict(load_file(path))
    store = world.store(target, harmonised=harmonised)
    logits = logits_by_batch_norms(network, store, world.size, world.compute, own)
    return as_predictions(store, world.classes, logits)


def by_plate_norms(
    world: StudyWorld, target: str, consensus: bool = False, norms: bool = True
) -> pd.DataFrame:
    """Predict by the workflow's network with batch norms on harmonised images, adapted to its consensus or not.

    At home images are as they are. Without `norms` these have the statistics of the training.
    """
    config = world.config | {"supervised_network": "resnet18"}
    settings, size = network_settings(config, "supervise"), {"views": config["views"]}
    weights = world.keep / "supervised_by_plates.safetensors"
    if not weights.exists():
        train_classifier(
            crops=world.crops(world.home, "train"),
            validation=world.crops(world.home, VALIDATION),
            outputs={"weights": str(weights), "log": str(weights.with_suffix(".parquet"))},
            settings={"model": settings["model"], "training": config["supervise"]} | size,
            seed=world.seed,
            machine=Machine(),
            what=world.results.name,
        )
    filters = None if target == world.home else world.filters(target)
    if consensus:
        folder, before = world.keep / target / "supervised_consensus", weights
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / "supervised.safetensors"
        wells = {"wells": config["data"]["wells"], "balanced": config["consensus"]["balanced"]}
        adapt_to_consensus(
            crops=world.crops(target, "train"),
            weights=str(before),
            outputs={"weights": str(weights), "log": str(folder / "log.parquet")},
            settings=settings | size | wells | {"training": config["adapt"]},
            seed=world.seed,
            machine=Machine(),
            what=f"{world.results.name}, {target}",
            open_crops=partial(HarmonisedStore, filters=filters),
        )
    pipeline = Pipeline(
        str(weights), settings["depth"], harmonised=filters is not None, plate_norms=norms
    )
    made = predict_sites(
        crops=[str(path) for path in world.store(target).paths],
        pipelines={"one": pipeline},
        settings=network_settings(config, supervised=True),
        machine=Machine(),
        what=target,
        filters=filters,
    )
    return next(iter(made))[1].drop(columns="Embedding")


def trained_on_target(
    world: StudyWorld, target: str, train: Callable, harmonised: bool = False
) -> pd.DataFrame:
    """Predict by foundation and task model after `train` has had the target's plates."""
    foundation, task_model = world.networks()
    store = world.store(target, "train", harmonised)
    sites = usable_rows(store.table, world.config["data"]["wells"])
    train(
        foundation,
        task_model,
        store=store,
        sites=sites,
        settings=world.adapt,
        views=world.views,
        compute=world.compute,
        seed=world.seed,
    )
    every = world.store(target, harmonised=harmonised)

    def logits(views: torch.Tensor) -> tuple[torch.Tensor]:
        return (task_model(foundation.forward_features(views)),)

    (found,) = apply_to_sites(logits, every, np.arange(len(every)), world.size, world.compute)
    return as_predictions(every, world.classes, found)


def by_deep_coral(world: StudyWorld, target: str) -> pd.DataFrame:
    """Train by DeepCORAL on both labs."""
    source = labelled_sites(world.store(world.home, "train"), world.classes)
    return trained_on_target(world, target, partial(deep_coral, source=source))


def measured(world: StudyWorld, target: str, correction: str) -> pd.DataFrame:
    """Predict wells by measured features.

    Without a correction nothing is taken from a target's other plates, so its held-out plate alone is measured.
    """

    def features(source: str) -> pd.DataFrame:
        tables = []
        alone = correction == "none" and source != world.home
        for crops in world.crops(source, VALIDATION if alone else None):
            path = world.keep / "features" / f"{Path(crops).stem}.parquet"
            if not path.exists():
                write_table(measured_features(CropStore([crops])), path)
            tables.append(read_table(path))
        return pd.concat(tables, ignore_index=True)

    made = predict_from_profiles(
        features(world.home), features(target), world.plates, world.classes, correction
    )
    made = made.drop(columns="Embedding")
    # At home the held-out plate only, as of every method: the classifier has learnt from the others.
    return made[on_subset(made, world.plates, VALIDATION)] if target == world.home else made


RIVALS: dict[str, Callable[[StudyWorld, str], pd.DataFrame]] = {
    "Linear probe": linear,
    "Linear, sphered": partial(linear, sphered=True),
    "Linear, CORAL": partial(linear, bring=by_coral),
    "Linear, CORAL on controls": partial(linear, bring=by_controls),
    "Linear, Harmony": partial(linear, bring=by_harmony),
    "Supervised": supervised,
    "TENT": partial(supervised, tent=True),
    "ResNet": partial(resnet, own=False),
    "AdaBN": partial(resnet, own=True),
    "CS-ARM-BN": partial(resnet, own=True, by_plates=True),
    "SHOT": partial(trained_on_target, train=shot),
    "SHOT, harmonised": partial(trained_on_target, train=shot, harmonised=True),
    "DeepCORAL": by_deep_coral,
    "Measured features": partial(measured, correction="none"),
    "Measured features, sphered": partial(measured, correction="sphered"),
    "Measured features, Harmony": partial(measured, correction="harmony"),
    "ResNet, harmonised": partial(resnet, own=False, harmonised=True),
    "AdaBN, harmonised": partial(resnet, own=True, harmonised=True),
    "CS-ARM-BN, harmonised": partial(resnet, own=True, by_plates=True, harmonised=True),
    BEFORE_SECOND: by_plate_norms,
    SECOND: partial(by_plate_norms, consensus=True),
}
MEASURED = [name for name in RIVALS if name.startswith("Measured")]
ON_HARMONISED = ["ResNet, harmonised", "AdaBN, harmonised", "CS-ARM-BN, harmonised"]
# What comes first; each step in all worlds before the next. CODA is a rival too, with each alignment.
STEPS = {
    1: ["unadapted", "harmonised", *list(RIVALS)[:6], METHOD],
    2: ["SHOT", "TENT", "ResNet", "AdaBN", "CS-ARM-BN"],
    3: ["coda"],
    4: ["SHOT, harmonised"],
    7: ["DeepCORAL"],
    8: [NOT_BALANCED],
    9: MEASURED[:1],
    11: ON_HARMONISED,
    12: MEASURED[1:],
    13: [BEFORE_SECOND, SECOND],
}
IN_NEW_WORLDS = ["unadapted", "harmonised", *STEPS[2][2:], *ON_HARMONISED, *STEPS[13]]
# Which method's sets of mechanisms are made by whom, on the training source's held-out plate.
AT_HOME = {
    **dict.fromkeys(list(RIVALS)[:5], "Linear probe"),
    **dict.fromkeys(["Supervised", "TENT"], "Supervised"),
    **dict.fromkeys(["ResNet", "AdaBN", *ON_HARMONISED[:2]], "ResNet"),
    **dict.fromkeys(["CS-ARM-BN", "CS-ARM-BN, harmonised"], "CS-ARM-BN"),
    **dict.fromkeys(MEASURED, "Measured features"),
    **dict.fromkeys([BEFORE_SECOND, SECOND], BEFORE_SECOND),
}


def predictions(world: StudyWorld, target: str, name: str) -> dict[str, pd.DataFrame]:
    """Predictions of a method or rival, made if they are not there yet; by their names with alignments."""
    spent = world.keep / "seconds" / target / f"{slug(name)}.json"
    path = world.keep / "predictions" / target / f"{slug(name)}.parquet"
    begun = time.process_time()
    if name in VARIANTS:
        made = world.predictions(name, target)
        found = {described(name, alignment): table for alignment, table in made.items()}
    else:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(RIVALS[name](world, target), path)
        found = {name: read_predictions(path)}
    if not spent.exists():
        spent.parent.mkdir(parents=True, exist_ok=True)
        spent.write_text(json.dumps(time.process_time() - begun))
    return found


def there(world: StudyWorld, name: str) -> bool:
    """Whether predictions of a method are there for all targets of a world."""
    folder = world.keep / "predictions"
    last = f"{slug(name)}/{ALIGNMENTS[-1]}.parquet" if name in VARIANTS else f"{slug(name)}.parquet"
    return all((folder / target / last).exists() for target in world.targets)


def at_home(world: StudyWorld, name: str) -> pd.DataFrame:
    """Predictions of the training source's held-out plate that a method's sets of mechanisms are made by."""
    if name in AT_HOME:
        return predictions(world, world.home, AT_HOME[name])[AT_HOME[name]]
    return world.predictions("unadapted", world.home)[None]


def covered(counted: Units, calibration: Calibration) -> tuple[float, float]:
    """Share of wells whose set of mechanisms holds the right one, and the mean size of the sets."""
    sets = sets_of(counted, calibration, COVERAGE)
    return float(sets["holds"].mean()), float(sets["size"].mean())


def scores_of(world: StudyWorld, names: list[str]) -> Iterator[dict]:
    """Rows of what is measured of the methods that are there."""
    home = world.predictions("unadapted", world.home)[None]
    known = {name: calibrate(at_home(world, name), "well") for name in names}
    common = {"world": world.results.name}
    for level in ("image", "well"):
        counted = units(home, classes_of(home), level)
        where = {"target": world.home, "method": "in domain", "split": HELD_OUT, "level": level}
        yield common | where | counts(counted)
    for target in world.targets:
        for name in names:
            spent = float((world.keep / "seconds" / target / f"{slug(name)}.json").read_text())
            for method, table in predictions(world, target, name).items():
                # Measured features name wells, so that accuracies of images would be another thing.
                for level in ("well",) if name in MEASURED else ("image", "well"):
                    for split, counted in target_units(table, world.plates, level).items():
                        if not len(counted):
                            continue
                        where = {"target": target, "method": method, "split": split, "level": level}
                        row = common | where | counts(counted) | {"cpu_seconds": round(spent, 1)}
                        if level == "well":
                            share, size = covered(counted, known[name])
                            row |= {"coverage": round(share, 4), "set_size": round(size, 3)}
                        yield row


def counts(counted: Units) -> dict[str, int]:
    """How many units there are, and how many are right."""
    return {"right": round(accuracy(counted) * len(counted)), "units": len(counted)}


def main() -> None:
    """Make what is missing, step by step, and write the scores of what is there."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("worlds", nargs="+", type=Path, metavar="RESULTS")
    arguments.add_argument("--keep", type=Path, required=True)
    arguments.add_argument("--steps", type=int, nargs="*", default=list(STEPS))
    arguments.add_argument("--knockouts", action="store_true")
    arguments.add_argument("--second", action="store_true", help="the second method's worlds")
    given = arguments.parse_args()
    config = demo_config()
    worlds = [StudyWorld(folder, config, given.keep / folder.name) for folder in given.worlds]
    steps, words = {step: STEPS[step] for step in given.steps}, "scores"
    if given.knockouts:
        steps, words = {5: ["unadapted", "harmonised", METHOD]}, "knockouts"
    if given.second:
        steps, words = {14: IN_NEW_WORLDS}, "second"
    for step, names in steps.items():
        for world in worlds:
            for name in names:
                for target in world.targets:
                    predictions(world, target, name)
                    print(f"step {step}: {world.results.name}, {target}, {name}", flush=True)
    every = STEPS if words == "scores" else steps
    names = [name for names in every.values() for name in names]
    rows = [
        row
        for world in worlds
        for row in scores_of(world, [name for name in names if there(world, name)])
    ]
    pd.DataFrame(rows).to_csv(RESULTS / f"study_{words}.csv", index=False)


if __name__ == "__main__":
    main()
