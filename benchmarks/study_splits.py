"""The study of new worlds (docs/study.md) where less is there: half of the mechanisms, one plate, few controls.

Needs what benchmarks/study.py needs; what is made goes into folders of its own below --keep.

PYTHONPATH=scripts python benchmarks/study_splits.py --keep study results/world_4 ... results/world_8
"""

import argparse
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from adaptation import demo_config, slug
from coda.columns import HELD_OUT
from coda.crops.harmonisation import (
    harmonise,
    load_spectra,
    save_harmonisations,
)
from coda.evaluation.compound_splits import choose_compounds, choose_mechanisms
from coda.evaluation.experiments import stretched
from coda.evaluation.units import classes_of, target_units, units
from coda.files import write_table
from coda.training.classify import train_classifier
from coda.training.compute import Machine
from coda.training.site_selection import KEPT_OUT, USED
from study import NOT_BALANCED, StudyWorld, counts, there
from study_summary import METHOD
from table import RESULTS

NAMES = ["unadapted", "harmonised", METHOD, NOT_BALANCED]


class OnePlate(StudyWorld):
    """One plate of the target is there to adapt to, seen as often as all would be."""

    words = "one plate"
    stretch = 3

    def crops(self, source: str, subset: str | None = None) -> list[str]:
        """Stores of a source's plates; the first of those that a target adapts to."""
        every = super().crops(source, subset)
        return every[:1] if subset == "train" and source != self.home else every

    def tested(self, source: str) -> frozenset[str] | None:
        """Compounds that are tested; None for all."""
        return None


class FewControls(OnePlate):
    """Filters of the target are made of a few control wells a plate."""

    words = "2 control wells"
    stretch = 1
    controls = 2

    def crops(self, source: str, subset: str | None = None) -> list[str]:
        """Stores of a source's plates."""
        return StudyWorld.crops(self, source, subset)

    def filters(self, target: str) -> str:
        """Filters made of the first control wells of each plate; at home the usual ones."""
        if target == self.home:
            return super().filters(target)
        path = self.keep / target / "filters.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            trained = self.plates.loc[self.plates["subset"] == "train", "Metadata_Plate"]
            folder = self.results / "spectra"
            known = load_spectra(folder / f"{self.home}.parquet")
            known = [each for each in known if each.plate in set(trained)]
            given = self.config["harmonise"]
            made = []
            for plate in load_spectra(folder / f"{target}.parquet"):
                kept = np.flatnonzero(plate.controls)[: self.controls]
                part = replace(
                    plate,
                    wells=[plate.wells[row] for row in kept],
                    controls=plate.controls[kept],
                    power=plate.power[kept],
                )
                made.append(harmonise(part, known, **given))
            save_harmonisations(made, path)
        return str(path)


class FourControls(FewControls):
    """As `FewControls`, with four."""

    words = "4 control wells"
    controls = 4


class Mix(FewControls):
    """Half of the mechanisms are there, seen as often as all would be."""

    words = "half of the mechanisms"
    stretch = 2

    def filters(self, target: str) -> str:
        """The usual filters, which are made of controls."""
        return StudyWorld.filters(self, target)

    @cached_property
    def chosen(self) -> pd.DataFrame:
        """Which compounds there are."""
        return choose_mechanisms(self.labelled(), self.seed)

    def labelled(self) -> pd.DataFrame:
        """Labelled compounds of the training plates."""
        table = self.store(self.home, "train").table
        names = ["Metadata_JCP2022", "Metadata_InChIKey", "Metadata_pert_iname", "Metadata_moa"]
        table = table.assign(fit=table["Quality_ok"]).dropna(subset=["Metadata_moa"])
        return table.groupby(names, as_index=False)["fit"].any()

    def choice(self, target: str) -> str | None:
        """Table of the choice; all are there at home."""
        if target == self.home:
            return None
        path = self.keep / "choice.csv"
        write_table(self.chosen, path)
        return str(path)

    def tested(self, source: str) -> frozenset[str] | None:
        """Compounds that there are."""
        return frozenset(self.chosen.loc[self.chosen["role"] == USED, "Metadata_JCP2022"])


class NewCompounds(Mix):
    """The task model learned from two of three compounds of each mechanism, and is tested on the others."""

    words = "new compounds"
    stretch = 1

    @cached_property
    def chosen(self) -> pd.DataFrame:
        """Which compounds it learned from."""
        return choose_compounds(
            self.labelled(), self.config["experiments"]["known_share"], self.seed
        )

    def choice(self, target: str) -> str | None:
        """All compounds are there on targets."""
        return None

    def tested(self, source: str) -> frozenset[str] | None:
        """Compounds that the task model did not learn from."""
        return frozenset(self.chosen.loc[self.chosen["role"] == KEPT_OUT, "Metadata_JCP2022"])

    @property
    def classifier(self) -> str:
        """Weights of a task model that learned from some compounds."""
        path = self.keep / "task_model.safetensors"
        if not path.exists():
            choice = self.keep / "choice.csv"
            write_table(self.chosen, choice)
            train_classifier(
                crops=self.crops(self.home, "train"),
                validation=self.crops(self.home, "validation"),
                outputs={"weights": str(path), "log": str(self.keep / "task_model.parquet")},
                settings={part: self.config[part] for part in ("model", "views")}
                | {"training": self.config["classify"]},
                seed=self.seed,
                machine=Machine(),
                what=f"{self.results.name}, some compounds",
                foundation=str(self.trained / "foundation.safetensors"),
                choice=str(choice),
            )
        return str(path)


KINDS = (FewControls, FourControls, Mix, OnePlate, NewCompounds)


def scores_of(world: OnePlate, names: list[str]) -> list[dict]:
    """Rows of right images and images on the held-out plates, of methods as trained, not aligned."""

    def counted(rows: pd.DataFrame, source: str) -> pd.DataFrame:
        tested = world.tested(source)
        return rows if tested is None else rows[rows["Metadata_JCP2022"].isin(tested)]

    home = counted(world.predictions("unadapted", world.home)[None], world.home)
    found = {(world.home, "in domain"): units(home, classes_of(home), "image")}
    for target in world.targets:
        for name in names:
            table = counted(world.predictions(name, target)[None], target)
            found[target, name] = target_units(table, world.plates, "image")[HELD_OUT]
    return [
        {
            "kind": world.words,
            "world": world.results.name,
            "target": target,
            "method": method,
            "split": HELD_OUT,
            "level": "image",
            **counts(each),
        }
        for (target, method), each in found.items()
    ]


def main() -> None:
    """Make what is missing and write the scores."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("worlds", nargs="+", type=Path, metavar="RESULTS")
    arguments.add_argument("--keep", type=Path, required=True)
    arguments.add_argument("--kinds", nargs="+", default=[kind.words for kind in KINDS])
    arguments.add_argument("--methods", nargs="+", default=NAMES)
    given = arguments.parse_args()
    rows = []
    for kind in (each for each in KINDS if each.words in given.kinds):
        for folder in given.worlds:
            config = demo_config()
            config["adapt"] = stretched(config["adapt"], kind.stretch)
            keep = given.keep / slug(kind.words) / folder.name
            keep.mkdir(parents=True, exist_ok=True)
            world = kind(folder, config, keep)
            rows += scores_of(
                world, [name for name in NAMES if name in given.methods or there(world, name)]
            )
            print(f"{kind.words}: {folder.name}", flush=True)
            pd.DataFrame(rows).to_csv(RESULTS / "study_splits.csv", index=False)


if __name__ == "__main__":
    main()
