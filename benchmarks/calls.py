"""What calls promise and what trust.csv tells, against the labels of simulated worlds.

The folders are those of benchmarks/adaptation.py, which adapts and predicts what is missing.

PYTHONPATH=scripts python benchmarks/calls.py --keep adapted results/world_1 results/world_2 results/world_3
"""

import pandas as pd
from adaptation import BEST, HOME, TARGETS, VARIANTS, World, accuracy, asked_worlds, described
from coda.evaluation.recommendation import control_distance
from coda.evaluation.replicate_agreement import replicate_agreement
from coda.evaluation.units import Units, classes_of, units, usable
from coda.files import write_table
from coda.predict.coverage import calibrate
from coda.predict.coverage_scores import score_coverage, sets_of
from coda.predict.trust import trust
from scipy.stats import spearmanr
from table import Table

ASKED = 0.9
START = "unadapted"
STEPS = [START, "harmonised", "harmonised, aligned on DMSO", BEST]


def compounds(predictions: pd.DataFrame) -> Units:
    """Labelled compounds, one prediction each."""
    return units(predictions, classes_of(predictions), "compound")


def measure(world: World) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score all variants on all plates of each target, and on each plate alone."""
    home = usable(world.predictions(START, HOME)[None])
    calibration, whole, single = calibrate(home, "compound"), [], []
    for target in TARGETS:
        tables = {
            described(name, alignment): usable(table)
            for name in VARIANTS
            for alignment, table in world.predictions(name, target).items()
        }
        for method, table in tables.items():
            told = {"world": world.results.name, "target": target, "method": method}
            counted = compounds(table)
            signs = {
                "agreement": replicate_agreement(table).information,
                "controls": -control_distance(table, home),
            }
            used = trust({START: tables[START], method: table}, home)["use"].iloc[-1]
            reached = {
                "accuracy": accuracy(counted),
                "coverage": sets_of(counted, calibration, ASKED)["holds"].mean(),
            }
            whole.append({**told, **signs, **reached, "used": used})
            for plate, mine in table.groupby("Metadata_Plate"):
                before = tables[START][tables[START]["Metadata_Plate"] == plate]
                used = trust({START: before, method: mine}, home)["use"].iloc[-1]
                signs = {"controls": -control_distance(mine, home)}
                reached = {"accuracy": accuracy(compounds(mine))}
                single.append({**told, "plate": plate, **signs, **reached, "used": used})
    return pd.DataFrame(whole), pd.DataFrame(single)


def at_home(world: World) -> float:
    """Coverage of compounds at home, each by what the others of the plate say."""
    path = world.keep / "home.parquet"
    write_table(world.predictions(START, HOME)[None], path)
    run = {"train_source": HOME, "target_source": HOME, "seed": 1, "method": START, "path": path}
    scores = score_coverage([run], world.plates, ASKED)
    return scores[(scores["of"] == "all") & (scores["level"] == "compound")]["coverage"].item()


def foretold(table: pd.DataFrame, sign: str, truth: str) -> pd.Series:
    """Rank correlation of a sign with the truth over the methods of each target (and plate)."""
    keys = ["world", "target", *(["plate"] if "plate" in table else [])]
    return table.groupby(keys)[[sign, truth]].apply(
        lambda rows: spearmanr(rows[sign], rows[truth]).statistic
    )


def chosen(table: pd.DataFrame) -> dict[str, float]:
    """What the choice between each method and none gains, beside always using the method."""
    keys = ["world", "target", *(["plate"] if "plate" in table else [])]
    before = table[table["method"] == START].set_index(keys)["accuracy"]
    rows = table[table["method"] != START].set_index(keys)
    gain = rows["accuracy"] - before.reindex(rows.index)
    used = rows["used"].astype(bool)
    return {
        "right": 100 * ((gain >= 0) == used).mean(),
        "gain": 100 * gain.where(used, 0).mean(),
        "always": 100 * gain.mean(),
        "missed": 100 * gain.where(~used, 0).clip(lower=0).mean(),
        "harm": -100 * gain.where(used, 0).clip(upper=0).mean(),
    }


def main() -> None:
    """Measure and write the table."""
    worlds, table = asked_worlds(__doc__), Table("calls")
    parts = [measure(world) for world in worlds]
    whole, single = (pd.concat(tables) for tables in zip(*parts, strict=True))
    homes = [at_home(world) for world in worlds]
    table.add("at home: coverage, mean", 100 * sum(homes) / len(homes), "%")
    table.add("at home: coverage, lowest world", 100 * min(homes), "%")
    for method in STEPS:
        rows = whole[whole["method"] == method]
        for column in ("coverage", "accuracy"):
            table.add(f"{method}: {column}, mean", 100 * rows[column].mean(), "%")
            table.add(f"{method}: {column}, lowest target", 100 * rows[column].min(), "%")
    for name, rows, sign, truth in (
        ("all plates", whole, "agreement", "accuracy"),
        ("all plates", whole, "agreement", "coverage"),
        ("all plates", whole, "controls", "accuracy"),
        ("all plates", whole, "controls", "coverage"),
        ("one plate", single, "controls", "accuracy"),
    ):
        found = foretold(rows, sign, truth)
        table.add(f"{name}: {sign} foretell {truth}, mean", found.mean(), "rho")
        table.add(f"{name}: {sign} foretell {truth}, lowest", found.min(), "rho")
    for name, rows in (("all plates", whole), ("one plate", single)):
        for words, value in chosen(rows).items():
            table.add(f"{name}: choice, {words}", value, "%" if words == "right" else "points")
    table.finish()


if __name__ == "__main__":
    main()
