"""What all rules share: the checked config, paths, and the code behind a script.

Nothing heavy is imported or read here: this runs whenever Snakemake starts.
"""

import ast
import os
import sys
from functools import cache
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.insert(0, str(SCRIPTS))

from coda.config import check_config, pairs
from coda.errors import UserError
from coda.methods import ADAPTATIONS, COMPOSED, names_of

try:
    check_config(
        config, yaml.safe_load((Path(workflow.basedir) / "config/schema.yaml").read_text())
    )
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = config["results"].rstrip("/")
SOURCES = sorted({*config["train_sources"], *config["target_sources"]})
PAIRS = pairs(config)
SEEDS = config["seeds"]
MODEL = f"{RESULTS}/models/{{source}}/seed_{{seed}}"
ADAPTED = f"{MODEL}/adapted/{{target}}/{{method}}"
TENT = ADAPTED.replace("{method}", "supervised_tent")
PREDICTIONS = f"{RESULTS}/predictions/{{source}}/seed_{{seed}}/{{method}}/{{target}}.parquet"
INTENSITIES = f"{RESULTS}/intensities/{{source}}/{{plate}}.parquet"
FIGURES = f"{RESULTS}/figures"
PER_PAIR = "{source}_to_{target}_seed_{seed}"
# The three jobs that a plate goes through while its images lie on the disk take one place in the image store
# and the same threads, and the later ones go first: what one job of a plate frees always has room for its
# next, so no plate waits with its images while another is fetched. The limit is set here and not in a
# profile, where --resources on the command line would replace it; a lower one given there counts.
LOWER = workflow.global_resources.get("image_store").value
workflow.register_resource(
    "image_store",
    min([config["gallery"]["plates_in_flight"], *([LOWER] if isinstance(LOWER, int) else [])]),
)
PLATE_THREADS = 2
# A file of weights to start from is an input of what starts from it; ImageNet's are fetched into one.
NETWORK = f"{RESULTS}/models/start.safetensors"
START = {"imagenet": [NETWORK], "random": []}.get(
    config["model"]["weights"], [config["model"]["weights"]]
)
# Classifiers see no local views.
GLOBAL_VIEWS = {key: value for key, value in config["views"].items() if "local" not in key}
# What decides which classes a training must see.
CLASS_CHOICE = {key: config["choose"][key] for key in ("wells", "compounds", "moas")}
# Foundations to adapt: those behind the methods that are compared.
ADAPTED_BY = [
    name
    for name in ADAPTATIONS
    if any(COMPOSED[method].adaptation == name for method in config["methods"])
]
# For profiles of executors that do not know the resource gpu and have a word of their own for it.
os.environ.update(CODA_GPUS=str(config["compute"]["gpus"]))


wildcard_constraints:
    source=r"[^/]+",
    target=r"[^/]+",
    plate=r"[^/]+",
    seed=r"\d+",
    method=r"[a-z_]+",


@cache
def imported(path):
    """List the modules of the library that a file imports."""
    files = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "coda":
            place = SCRIPTS.joinpath(*node.module.split("."))
            candidates = [place.with_suffix(".py"), place / "__init__.py"]
            candidates += [place / f"{name.name}.py" for name in node.names]
            files += [file for file in candidates if file.is_file()]
    return files


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
            found[path] = os.path.relpath(path)
            waiting += imported(path)
    # Local: where jobs share no disk, inputs come from a bucket, but code travels with the job.
    return [local(path) for path in sorted(found.values())]


def training_settings(section, *names):
    """Collect the parts of the config that a training depends on, and no others.

    How it is watched and compiled changes no result, so its script reads `watch` and `compute` from the config.
    """
    settings = {"training": config[section]} | {name: config[name] for name in names}
    if START == [NETWORK]:
        settings["model"] = config["model"] | {"fetched": NETWORK}
    return settings


def network_settings(depth_of=None):
    """What it takes to build trained networks again; the depth is the classifier's, set in that section."""
    settings = {
        "model": {key: config["model"][key] for key in ("architecture", "options")},
        "image_size": config["views"]["global_size"],
    }
    return settings | ({"depth": config[depth_of]["depth"]} if depth_of else {})


def methods_of(kind):
    """Pattern of the names of all methods of a kind, chosen or not."""
    return "|".join(names_of(kind))


def growing(least):
    """Memory in MB, or time in minutes, that doubles with every try."""
    return lambda wildcards, attempt: least * 2 ** (attempt - 1)


def figure(stem):
    """Name the files of a figure without its ending: vector, picture and the table behind it."""
    return dict(pdf=f"{FIGURES}/{stem}.pdf", csv=f"{FIGURES}/{stem}.csv")
