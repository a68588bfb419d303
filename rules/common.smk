"""What all rules share: the checked config, paths, plates of a source, and the code behind a script.

Nothing heavy is imported or read here: this runs whenever Snakemake starts.
"""

import ast
import csv
import sys
from functools import cache
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.insert(0, str(SCRIPTS))

from coda.config import check_config, pairs
from coda.errors import UserError

try:
    check_config(config, yaml.safe_load((Path(workflow.basedir) / "config/schema.yaml").read_text()))
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = config["results"].rstrip("/")
SOURCES = sorted({*config["train_sources"], *config["target_sources"]})
PAIRS = pairs(config)
SEEDS = config["seeds"]
MODEL = f"{RESULTS}/models/{{source}}/seed_{{seed}}"
ADAPTED = f"{MODEL}/adapted/{{target}}/{{method}}"
ADAPTATIONS = [method for method in config["methods"] if method in ("oda", "coda")]


wildcard_constraints:
    source=r"[^/]+",
    target=r"[^/]+",
    plate=r"[^/]+",
    seed=r"\d+",
    method=r"[a-z_]+",


@cache
def code(script):
    """List a script and every module of the library that it uses, directly or not.

    As an input of its rule, the list makes a change in the library run again what uses it, and
    nothing else. It is read from the import statements, so it cannot be out of step with them.
    """
    found, waiting = {}, [SCRIPTS / f"{script}.py"]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = str(path.relative_to(workflow.basedir))
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "coda":
                    place = SCRIPTS.joinpath(*node.module.split("."))
                    candidates = [place.with_suffix(".py"), place / "__init__.py"]
                    candidates += [place / f"{name.name}.py" for name in node.names]
                    waiting += [file for file in candidates if file.is_file()]
    return sorted(found.values())


@cache
def read_plates(path):
    """Read the chosen plates: a list of (source, plate, subset)."""
    with open(path) as file:
        rows = csv.DictReader(file)
        return [tuple(row[f"Metadata_{key}"] for key in ("Source", "Plate")) + (row["subset"],) for row in rows]


def plates_of(source, *subsets):
    """Give the plates of a source in the given subsets (all by default), once they are chosen."""
    table = read_plates(checkpoints.select_plates.get().output.plates)
    return [plate for owner, plate, subset in table if owner == source and (not subsets or subset in subsets)]


def crops_of(source, *subsets):
    """Give the crop files of a source's plates."""
    return [f"{RESULTS}/crops/{source}/{plate}.arrow" for plate in plates_of(source, *subsets)]


def train_crops(wildcards):
    """Plates of the source that train."""
    return crops_of(wildcards.source, "train")


def validation_crops(wildcards):
    """The source's validation plate."""
    return crops_of(wildcards.source, "validation")


def adaptation_crops(wildcards):
    """Plates of the target that a foundation adapts to: all but the one kept out."""
    return crops_of(wildcards.target, "train")


def tested_crops(wildcards):
    """Plates to predict: all of a target, only the validation plate at home."""
    subsets = ["validation"] if wildcards.source == wildcards.target else []
    return crops_of(wildcards.target, *subsets)


def all_crops(wildcards):
    """Crops of every plate that takes part."""
    return [path for source in SOURCES for path in crops_of(source)]


def all_quality(wildcards):
    """Quality tables of every plate that takes part."""
    return [f"{RESULTS}/quality/{source}/{plate}.parquet" for source in SOURCES for plate in plates_of(source)]


def training_settings(section, *names):
    """Collect the parts of the config that a training depends on, and no others."""
    return {"training": config[section]} | {name: config[name] for name in names}


def growing(least):
    """Memory in MB that doubles with every try."""
    return lambda wildcards, attempt: least * 2 ** (attempt - 1)


