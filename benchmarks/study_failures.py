"""Where the method loses in the study (docs/study.md): mechanisms it misses, and pictures of the worst of them.

Needs what benchmarks/study.py made. Writes docs/images/study_failures.png with its table.

PYTHONPATH=scripts python benchmarks/study_failures.py --keep study results/world_4 ... results/world_8
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from adaptation import demo_config
from coda.columns import HELD_OUT
from coda.crops.composite import composites, stretched
from coda.crops.store import CropStore
from coda.evaluation.units import LOGIT, classes_of, target_splits
from coda.figures.style import MM, PALETTE, Drawing, new_figure, save_figure, style
from matplotlib.figure import SubFigure
from scipy.stats import spearmanr
from study import StudyWorld, predictions
from study_summary import IN_DOMAIN, METHOD

RIVAL = "CS-ARM-BN, harmonised"
OUTPUT = Path(__file__).parents[1] / "docs/images/study_failures"


def called(table: pd.DataFrame) -> pd.DataFrame:
    """Labelled images with what each is called."""
    rows = table[table["Metadata_moa"].notna()].reset_index(drop=True)
    classes = classes_of(rows)
    best = rows[[LOGIT + name for name in classes]].to_numpy().argmax(axis=1)
    return rows.assign(called=np.array(classes)[best])


def held_out_calls(world: StudyWorld, target: str, name: str) -> pd.DataFrame:
    """Calls of a method, not aligned, for the held-out plate of a target."""
    return called(target_splits(predictions(world, target, name)[name], world.plates)[HELD_OUT])


def recalls(worlds: list[StudyWorld]) -> pd.DataFrame:
    """Share of the images of each mechanism that are called right: at home, by the method and by the rival."""

    def right(rows: pd.DataFrame) -> pd.Series:
        return (rows["called"] == rows["Metadata_moa"]).groupby(rows["Metadata_moa"]).mean()

    parts = []
    for world in worlds:
        home = right(called(world.predictions("unadapted", world.home)[None]))
        for target in world.targets:
            found = {name: right(held_out_calls(world, target, name)) for name in (METHOD, RIVAL)}
            part = pd.DataFrame({IN_DOMAIN: home} | found).rename_axis("mechanism").reset_index()
            parts.append(part.assign(world=world.results.name, target=target))
    return pd.concat(parts, ignore_index=True)


def pictures(world: StudyWorld, target: str, mechanism: str, taken_for: str) -> list[np.ndarray]:
    """Composites: rows the mechanism and what it is taken for, columns training source, target, and that harmonised."""
    rows = held_out_calls(world, target, METHOD)
    wrong = rows[(rows["Metadata_moa"] == mechanism) & (rows["called"] == taken_for)].iloc[0]
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]

    def crop(store: CropStore, at: np.ndarray) -> np.ndarray:
        chosen = np.flatnonzero(at & store.table["Quality_ok"].to_numpy())[:1]
        pixels = store.on_device(torch.from_numpy(store.gather(chosen)), chosen)
        return composites(stretched(pixels.numpy()), store.channels)[0]

    made = []
    for name in (mechanism, taken_for):
        for store in (
            world.store(world.home),
            world.store(target),
            world.store(target, harmonised=True),
        ):
            table = store.table
            at = (table["Metadata_moa"] == name).to_numpy()
            if name == mechanism and table["Metadata_Source"].iloc[0] == target:
                at = (table[keys] == wrong[keys]).all(axis=1).to_numpy()
            made.append(crop(store, at))
    return made


def draw_recalls(figure: SubFigure, table: pd.DataFrame) -> None:
    """A dot a mechanism and target: at home and on the target."""
    axes = figure.subplots()
    names = {METHOD: ("the method", PALETTE[0], "o"), RIVAL: (RIVAL, PALETTE[3], "^")}
    for column, (words, colour, marker) in names.items():
        looks = {"s": 9, "color": colour, "marker": marker, "alpha": 0.7, "label": words}
        axes.scatter(table[IN_DOMAIN], table[column], **looks)
    axes.set_xlabel("right in domain, by the pipeline")
    axes.set_ylabel("right on the held-out plate of a target")
    axes.set_title("A dot is a mechanism and a target")
    axes.grid()
    axes.legend()


def main() -> None:
    """Find the worst case, draw it, and print what foretells it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("worlds", nargs="+", type=Path, metavar="RESULTS")
    arguments.add_argument("--keep", type=Path, required=True)
    given = arguments.parse_args()
    config = demo_config()
    worlds = [StudyWorld(folder, config, given.keep / folder.name) for folder in given.worlds]
    table = recalls(worlds)
    for name in (METHOD, RIVAL):
        rho = spearmanr(table[IN_DOMAIN], table[name]).statistic
        print(f"{name}: rank correlation with accuracy in domain {rho:.2f}")
    lost = table.loc[(table[RIVAL] - table[METHOD]).idxmax()]
    world = next(each for each in worlds if each.results.name == lost["world"])
    target, mechanism = lost["target"], lost["mechanism"]
    rows = held_out_calls(world, target, METHOD)
    named = rows.loc[rows["Metadata_moa"] == mechanism, "called"].value_counts()
    taken_for = named.drop(mechanism, errors="ignore").index[0]
    print(lost.to_string(), named.to_string(), sep="\n")
    with style():
        figure = new_figure(65 * MM)
        left, right = figure.subfigures(1, 2, width_ratios=[1, 1.3])
        draw_recalls(left, table)
        grid = right.subplots(2, 3)
        images = pictures(world, target, mechanism, taken_for)
        for axes, image in zip(grid.ravel(), images, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, words in zip(grid[0], (world.home, target, "harmonised"), strict=True):
            axes.set_title(words.replace("_", " "))
        for axes, words in zip(grid[:, 0], (mechanism, taken_for), strict=True):
            axes.set_ylabel(words.replace("simulated ", ""))
        right.suptitle(f"{world.results.name.replace('_', ' ')}: above is taken for below")
    save_figure(Drawing(figure, table.round(4)), OUTPUT, dpi=100, vector=False)


if __name__ == "__main__":
    main()
