"""Whether the recommendation, which sees no label, takes a good method where networks differ (docs/study.md).

Needs the predictions that benchmarks/study.py made.

PYTHONPATH=scripts python benchmarks/study_recommendation.py --keep study results/world_4 ... results/world_8
"""

import argparse
from pathlib import Path

import pandas as pd
from adaptation import accuracy, demo_config
from coda.columns import HELD_OUT, SITE_KEYS
from coda.evaluation.recommendation import choose, compare_methods
from coda.evaluation.units import target_units
from scipy.stats import spearmanr
from study import (
    AT_HOME,
    ON_HARMONISED,
    STEPS,
    StudyWorld,
    at_home,
    by_plate_norms,
    predictions,
)
from study_summary import METHOD, UNADAPTED
from table import RESULTS

NAMES = [UNADAPTED, "harmonised", "coda", METHOD, *STEPS[2][2:], *ON_HARMONISED, *STEPS[13]]


def foretold(world: StudyWorld, target: str) -> dict:
    """Compare all methods on a target, and say how good the one is that is taken."""
    tables, networks = {}, {}
    for name in NAMES:
        made = predictions(world, target, name)
        tables |= made
        networks |= dict.fromkeys(made, name)
    sites = tables[UNADAPTED][SITE_KEYS]
    tables = {name: sites.merge(table, on=SITE_KEYS) for name, table in tables.items()}
    right = pd.Series(
        {
            name: accuracy(target_units(table, world.plates, "image")[HELD_OUT])
            for name, table in tables.items()
        }
    )
    other = {
        name: ("ResNet", at_home(world, given))
        for name, given in networks.items()
        if given in AT_HOME
    }
    # As in the workflow: at home this network has the norms of its training.
    by_plates = ("supervised", by_plate_norms(world, world.home, norms=False))
    other |= dict.fromkeys(STEPS[13], by_plates)
    compared = compare_methods(tables, at_home(world, UNADAPTED), other)
    truth = right[compared["method"]]
    chosen = choose(compared)
    return {
        "world": world.results.name,
        "target": target,
        "methods": len(compared),
        "rank_correlation": spearmanr(compared["agreement"], truth).statistic,
        "chosen": chosen,
        "accuracy": right[chosen],
        "best": right.idxmax(),
        "regret": right.max() - right[chosen],
        "gain": right[chosen] - right[UNADAPTED],
    }


def main() -> None:
    """Print and write a row a target."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("worlds", nargs="+", type=Path, metavar="RESULTS")
    arguments.add_argument("--keep", type=Path, required=True)
    given, config = arguments.parse_args(), demo_config()
    rows = []
    for folder in given.worlds:
        world = StudyWorld(folder, config, given.keep / folder.name)
        rows += [foretold(world, target) for target in world.targets]
    table = pd.DataFrame(rows).round(4)
    print(table.to_string(index=False))
    table.to_csv(RESULTS / "study_recommendation.csv", index=False)


if __name__ == "__main__":
    main()
