"""How much of the gap between labs each way to harmonise, adapt and align closes, in simulated worlds.

Each folder holds the results of one world, in which what is trained on the training source is there already (see
docs/method-choice.md). What is adapted to each target and all predictions are made once, into the folder --keep.

PYTHONPATH=scripts python benchmarks/adaptation.py --keep adapted results/world_1 results/world_2 results/world_3
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from coda.columns import HELD_OUT, TARGET_SPLITS, VALIDATION
from coda.config import check_config, network_settings
from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.evaluation.predict import Pipeline, predict_sites
from coda.evaluation.recommendation import choose, compare_methods
from coda.evaluation.units import Units, classes_of, read_predictions, target_units, units
from coda.files import read_table, write_table
from coda.training.compute import Machine
from coda.training.interpolation import interpolate_foundations
from coda.training.pretrain import FoundationJob, train_foundation
from scipy.stats import spearmanr
from snakemake.utils import update_config
from table import Table

CONFIG = Path(__file__).parents[1] / "config"
HOME, TARGETS, SEED = "source_5", ("source_3", "source_8"), 1
ALIGNMENTS = (None, "all", "dmso")


@dataclass(frozen=True)
class Variant:
    """A way to adapt.

    Attributes
    ----------
    harmonised : bool
        Whether the target's images are harmonised first.
    adapt : dict or None
        What it changes in the section ``adapt`` of the demo's config; None adapts nothing.
    consensus : dict or None
        Settings of the consensus that it holds to.
    share : float
        Share of the way from step 1 to the adapted weights.
    of : str or None
        Whose weights `share` is of.
    """

    harmonised: bool = True
    adapt: dict[str, Any] | None = None
    consensus: dict[str, Any] | None = None
    share: float = 1.0
    of: str | None = None


FAST = {"teacher_momentum": "auto"}
VARIANTS = {
    "unadapted": Variant(harmonised=False),
    "harmonised": Variant(),
    "coda": Variant(harmonised=False, adapt={}),
    "harmonised coda": Variant(adapt={}),
    "harmonised coda, momentum": Variant(adapt=FAST),
    "harmonised coda, frozen": Variant(adapt={"frozen_blocks": 2}),
    "harmonised coda, patch": Variant(adapt={"patch_term": 0.5}),
    "harmonised coda, moments": Variant(adapt={"hold_moments": 0.1}),
    "coda_consensus": Variant(harmonised=False, adapt=FAST, consensus={}),
    "harmonised coda_consensus": Variant(adapt=FAST, consensus={}),
    "coda_consensus, not balanced": Variant(
        harmonised=False, adapt=FAST, consensus={"balanced": False}
    ),
    "harmonised coda_consensus, not balanced": Variant(adapt=FAST, consensus={"balanced": False}),
    "harmonised coda_consensus, not balanced, weight 0.5": Variant(
        adapt=FAST, consensus={"weight": 0.5, "balanced": False}
    ),
    "harmonised coda, half": Variant(share=0.5, of="harmonised coda"),
}
BEST = "harmonised coda_consensus"
DEMO = ["unadapted", "harmonised", "coda", BEST]


@dataclass(frozen=True)
class World:
    """One world: where its results lie, its config, where what is made here goes, training source and seed."""

    results: Path
    config: dict[str, Any]
    keep: Path
    home: str = HOME
    seed: int = SEED

    @property
    def trained(self) -> Path:
        """Folder of what was trained on the training source."""
        return self.results / "models" / self.home / f"seed_{self.seed}"

    @property
    def plates(self) -> pd.DataFrame:
        """The plates, and which of them are held out."""
        return read_table(self.results / "metadata/plates.csv")

    def crops(self, source: str, subset: str | None = None) -> list[str]:
        """Stores of a source's plates, of one subset or all."""
        mine = self.plates[self.plates["Metadata_Source"] == source]
        if subset:
            mine = mine[mine["subset"] == subset]
        folder = self.results / "crops" / source
        return [str(folder / f"{plate}.arrow") for plate in mine["Metadata_Plate"]]

    @property
    def classifier(self) -> str:
        """Weights of the task model."""
        return str(self.trained / "task_model.safetensors")

    def choice(self, target: str) -> str | None:
        """Table of the compounds that there are on a target, where not all are."""
        return None

    def filters(self, target: str) -> str:
        """Filters that harmonise a target's plates."""
        return str(self.results / "harmonisation" / self.home / f"{target}.parquet")

    def foundation(self, name: str, target: str) -> str:
        """Weights of the foundation behind a variant; they are trained if they are not there yet."""
        variant = VARIANTS[name]
        if variant.adapt is None and variant.of is None:
            return str(self.trained / "foundation.safetensors")
        folder = self.keep / target / slug(name)
        output = folder / "foundation.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        if output.exists():
            return str(output)
        if variant.of:
            start = str(self.trained / "foundation.safetensors")
            adapted = self.foundation(variant.of, target)
            interpolate_foundations(start, adapted, variant.share, str(output))
            return str(output)
        settings = {part: self.config[part] for part in ("model", "head", "views", "data")}
        settings["training"] = self.config["adapt"] | variant.adapt
        if variant.consensus is not None:
            settings["consensus"] = variant.consensus
        opened = partial(HarmonisedStore, filters=self.filters(target))
        train_foundation(
            FoundationJob(
                crops=self.crops(target, "train"),
                start=str(self.trained / "networks.safetensors"),
                outputs={"foundation": str(output), "log": str(folder / "log.parquet")},
                settings=settings,
                seed=self.seed,
                machine=Machine(),
                what=f"{self.results.name}, {target}, {name}",
                task_model=self.classifier,
                choice=self.choice(target),
                statistics=str(self.trained / "tokens.safetensors"),
                open_crops=opened if variant.harmonised else CropStore,
            )
        )
        return str(output)

    def predictions(self, name: str, target: str) -> dict[str | None, pd.DataFrame]:
        """Predictions of a variant, by alignment; at home of the held-out plate."""
        folder = self.keep / "predictions" / target / slug(name)
        paths = {alignment: folder / f"{alignment}.parquet" for alignment in ALIGNMENTS}
        if not all(path.exists() for path in paths.values()):
            folder.mkdir(parents=True, exist_ok=True)
            variant = VARIANTS[name]
            made = predict_sites(
                crops=self.crops(target, VALIDATION if target == self.home else None),
                pipelines={
                    str(alignment): Pipeline(
                        classifier=self.classifier,
                        foundation=self.foundation(name, target),
                        depth=self.config["classify"]["depth"],
                        alignment=alignment,
                        harmonised=variant.harmonised,
                    )
                    for alignment in ALIGNMENTS
                },
                settings=network_settings(self.config),
                machine=Machine(),
                what=f"{self.results.name}, {target}, {name}",
                statistics=str(self.trained / "tokens.safetensors"),
                filters=self.filters(target),
                choice=self.choice(target),
            )
            for alignment, table in made:
                write_table(table, folder / f"{alignment}.parquet")
        return {alignment: read_predictions(path) for alignment, path in paths.items()}


def slug(name: str) -> str:
    """A name for a folder."""
    return name.replace(" ", "_").replace(",", "")


def accuracy(counted: Units) -> float:
    """Share of the units whose most probable class is right."""
    return float((counted.probabilities.argmax(axis=1) == counted.labels).mean())


def described(name: str, alignment: str | None) -> str:
    """Name of a variant with its alignment."""
    return name + {None: "", "all": ", aligned", "dmso": ", aligned on DMSO"}[alignment]


def measure(world: World, variants: list[str]) -> pd.DataFrame:
    """Accuracies of variants in a world: columns target, method, split and value."""
    rows = []
    at_home = world.predictions("unadapted", HOME)[None]
    home = accuracy(units(at_home, classes_of(at_home), "image"))
    for target in TARGETS:
        for name in variants:
            for alignment, table in world.predictions(name, target).items():
                for split, counted in target_units(table, world.plates, "image").items():
                    rows.append((target, described(name, alignment), split, accuracy(counted)))
    table = pd.DataFrame(rows, columns=["target", "method", "split", "value"])
    return table.assign(world=world.results.name, home=home)


def foretell(world: World, variants: list[str], scores: pd.DataFrame) -> pd.DataFrame:
    """Compare what the recommendation goes by with accuracy on the held-out plate: a row a target."""
    home, rows = world.predictions("unadapted", HOME)[None], []
    held_out = scores[scores["split"] == HELD_OUT].set_index(["target", "method"])["value"]
    for target in TARGETS:
        tables = {
            described(name, alignment): table
            for name in variants
            for alignment, table in world.predictions(name, target).items()
        }
        compared = compare_methods(tables, home)
        truth = held_out[target].loc[compared["method"]]
        chosen = choose(compared)
        rows.append(
            {
                "agreement": spearmanr(compared["agreement"], truth).statistic,
                "controls": -spearmanr(compared["control_distance"], truth).statistic,
                "chosen": chosen,
                "regret": truth.max() - truth[chosen],
                "gain": truth[chosen] - truth["unadapted"],
            }
        )
    return pd.DataFrame(rows).assign(world=world.results.name, target=list(TARGETS))


def demo_config() -> dict[str, Any]:
    """The demo's config, as Snakemake reads it."""
    config = yaml.safe_load((CONFIG / "config.yaml").read_text())
    update_config(config, yaml.safe_load((CONFIG / "demo.yaml").read_text()))
    return check_config(config, yaml.safe_load((CONFIG / "schema.yaml").read_text()))


def gap_closed(scores: pd.DataFrame) -> pd.DataFrame:
    """Give the share of the gap that each method closes: in each world of the mean over targets; columns are worlds."""
    means = scores.pivot_table("value", ["split", "method"], "world")
    before = means.xs("unadapted", level="method").reindex(means.index, level="split")
    home = scores.groupby("world")["home"].first()
    return (means - before) / (home - before)


def worst(scores: pd.DataFrame) -> pd.Series:
    """Give the lowest difference from unadapted over all pairs, by split and method."""
    pairs = scores.pivot_table("value", ["split", "method"], ["world", "target"])
    before = pairs.xs("unadapted", level="method").reindex(pairs.index, level="split")
    return (pairs - before).min(axis=1)


def asked_worlds(description: str) -> list[World]:
    """Read the command line of a benchmark of worlds: their results, and where what is made goes."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("worlds", nargs="+", type=Path, metavar="RESULTS")
    arguments.add_argument("--keep", type=Path, required=True)
    given, config = arguments.parse_args(), demo_config()
    return [World(folder, config, given.keep / folder.name) for folder in given.worlds]


def main() -> None:
    """Adapt, predict and score what is missing; print and write the table."""
    worlds, table = asked_worlds(__doc__), Table("adaptation")
    scores = pd.concat([measure(world, list(VARIANTS)) for world in worlds])
    mean, lowest = gap_closed(scores).mean(axis=1), worst(scores)
    for split in TARGET_SPLITS:
        for method in scores["method"].unique():
            words = f"{split} plates: {method}"
            closed, harm = 100 * mean[split, method], 100 * lowest[split, method]
            aimed = (split, method) == (HELD_OUT, BEST)
            table.add(
                f"{words}, gap closed", closed, "%", *((">= 85", closed >= 85) if aimed else ())
            )
            table.add(
                f"{words}, worst pair", harm, "points", *((">= 0", harm >= 0) if aimed else ())
            )
    each = {"all methods": list(VARIANTS), "methods of the demo": DEMO}
    for words, names in each.items():
        found = pd.concat(
            [
                foretell(world, names, scores[scores["world"] == world.results.name])
                for world in worlds
            ]
        )
        print(found.to_string(index=False))
        for column, unit in (("agreement", "rho"), ("controls", "rho"), ("regret", "points")):
            factor = 100 if unit == "points" else 1
            worst_of = found[column].max() if unit == "points" else found[column].min()
            table.add(f"{words}: {column}, mean", factor * found[column].mean(), unit)
            table.add(f"{words}: {column}, worst pair", factor * worst_of, unit)
        table.add(f"{words}: least gain of the chosen", 100 * found["gain"].min(), "points")
    table.finish()


if __name__ == "__main__":
    main()
