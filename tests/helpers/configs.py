"""Configs that come with the workflow, checked: the paper's with changes, or one by its name."""

from copy import deepcopy

import yaml
from coda.config import check_config
from places import CONFIG
from snakemake.utils import update_config

SCHEMA = yaml.safe_load((CONFIG / "schema.yaml").read_text())
BASE = yaml.safe_load((CONFIG / "config.yaml").read_text())


def checked(**changes) -> dict:
    """Check the paper's config with changes: ``views__local_size=104`` is that key of that section."""
    config = deepcopy(BASE)
    for key, value in changes.items():
        place = config
        *above, last = key.split("__")
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return check_config(config, deepcopy(SCHEMA))


def load_config(name: str) -> dict:
    """Read a config as Snakemake does: laid over config.yaml, then checked."""
    config = yaml.safe_load((CONFIG / "config.yaml").read_text())
    update_config(config, yaml.safe_load((CONFIG / f"{name}.yaml").read_text()))
    return check_config(config, yaml.safe_load((CONFIG / "schema.yaml").read_text()))
