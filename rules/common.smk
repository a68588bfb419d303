"""What several rule files use: the checked config, paths, plates and what a run has to compute with.

Nothing heavy is imported or read here: this runs whenever Snakemake starts.
"""

import csv
import os
import re
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

HOME = Path(str(workflow.current_basedir)).parent
SCRIPTS = HOME / "scripts"
sys.path.insert(0, str(SCRIPTS))

from coda.code_digest import code_digest
from coda.columns import PLACE_COLUMNS
from coda.config import (
    check_config,
    network_settings,
    pairs,
    pixel_sizes,
    supervised_network,
    taking_part,
)
from coda.errors import UserError
from coda.locks import keep
from coda.methods import ADAPTATIONS, COMPOSED, in_order, names_of
from coda.orphans import RUN
from coda.predict.pack_files import describe, lay_over, open_pack, settings_of
from coda.redaction import shown
from coda.run_progress import RunProgress, jobs_of
from coda.time_left import network_work

try:
    schema = yaml.safe_load((HOME / "config/schema.yaml").read_text())
    if config.get("pack"):
        PACK = open_pack(config["pack"], Path(config.get("results", "results")) / "pack")
        paper = yaml.safe_load((HOME / "config/config.yaml").read_text())
        lay_over(config, describe(PACK), schema, paper["channels"])
    check_config(config, schema)
except UserError as error:
    raise WorkflowError(shown(str(error))) from None

RESULTS = config["results"].rstrip("/")
SOURCES = taking_part(config)
# Sources whose crops were cut elsewhere, and the tables of these.
READY = {source: table for source in SOURCES if (table := config["sources"][source]["crops"])}
PAIRS = pairs(config)
SEEDS = config["seeds"]
MODEL = f"{RESULTS}/models/{{source}}/seed_{{seed}}"
FIGURES = f"{RESULTS}/figures"
# Foundations to adapt: those behind the methods that are compared.
ADAPTED_BY = in_order(
    COMPOSED[name].foundation
    for name in config["methods"]
    if COMPOSED[name].adaptation in ADAPTATIONS
)
# What figures of a pair show beside the unadapted method; rules have inputs even if nothing asks for them.
AFTER = config["figures"]["after"] or "coda"
HARMONISES = any(COMPOSED[name].harmonised for name in config["methods"])
# For profiles of executors that do not know the resource gpu and have a word of their own for it.
os.environ.update(CODA_GPUS=str(config["compute"]["gpus"]))
# Threads that wait for others give their core to whoever else has work, such as the next job on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


wildcard_constraints:
    source=r"[^/]+",
    target=r"[^/]+",
    plate=r"[^/]+",
    seed=r"\d+",
    method=r"[a-z_]+",


def limit(resource):
    """The limit that the command line or a profile sets to a resource; None without one."""
    value = workflow.global_resources.get(resource).value
    return value if isinstance(value, int) else None


# Cores to share between jobs; None where the jobs run on other machines, or this process is one of them.
CORES = limit("_cores") if workflow.is_main_process else None
# The three jobs that a plate goes through while its images lie on the disk take one place in the image store
# and the same threads, and the later ones go first: what one job of a plate frees always has room for its
# next, so no plate waits with its images while another is fetched. The limit is set here and not in a
# profile, where --resources on the command line would replace it; a lower one given there counts.
IN_FLIGHT = min(filter(None, [config["gallery"]["plates_in_flight"], limit("image_store")]))
workflow.register_resource("image_store", IN_FLIGHT)
PLATE_THREADS = 2 if CORES is None else max(1, CORES // IN_FLIGHT)

if workflow.is_main_process:
    os.environ[RUN] = str(os.getpid())
    # Beside the lines of single jobs, one for the whole run.
    PROGRESS = RunProgress(lambda: jobs_of(workflow.dag), network_work(config), CORES)
    logger.addHandler(PROGRESS)


def share(jobs, spare=0):
    """Threads for each of some jobs with networks that run at once, and leave a number of cores to others.

    With a GPU they only feed it, and are as many as the config says; without one they compute.
    """
    most = config["compute"]["threads"]
    if CORES is None or limit("gpu") != 0:
        return most
    return min(most, max(1, (CORES - spare) // jobs))


TRAININGS = len(config["train_sources"]) * len(SEEDS)


def growing(least):
    """Memory in MB, or time in minutes, that doubles with every try."""
    return lambda wildcards, attempt: least * 2 ** (attempt - 1)


def code(script):
    """The param by which another computation, but not another word, in a script or behind it runs its rule again."""
    return code_digest(SCRIPTS / f"{script}.py")


@cache
def read_plates(path, changed):
    """Read the chosen plates, last changed when `changed` says: by source and plate, what is said of them."""
    with open(path) as file:
        rows = csv.DictReader(file)
        return {(row["Metadata_Source"], row["Metadata_Plate"]): row for row in rows}


def chosen_plates():
    """Give the chosen plates, once they are chosen."""
    path = checkpoints.select_plates.get().output.plates
    return read_plates(path, os.stat(path).st_mtime_ns)


def plates_of(source, *subsets):
    """Give the plates of a source in the given subsets (all by default)."""
    return [
        plate
        for (owner, plate), row in chosen_plates().items()
        if owner == source and (not subsets or row["subset"] in subsets)
    ]


def tables_of(kind, *sources):
    """One table a plate of some sources, of a kind: index, manifests or quality."""
    return [
        f"{RESULTS}/{kind}/{source}/{plate}.parquet"
        for source in sources
        for plate in plates_of(source)
    ]


def all_quality(wildcards):
    """Quality tables of every plate that takes part."""
    return tables_of("quality", *SOURCES)


def crops_of(source, *subsets):
    """Give the crop files of a source's plates."""
    return [f"{RESULTS}/crops/{source}/{plate}.arrow" for plate in plates_of(source, *subsets)]


def training_crops(wildcards):
    """Plates of the source that train."""
    return crops_of(wildcards.source, "train")


def held_out_crops(wildcards):
    """The source's held-out plate."""
    return crops_of(wildcards.source, "validation")
