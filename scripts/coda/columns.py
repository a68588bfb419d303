"""Columns that tables share, the subsets and splits of plates, and their plain words."""

import re
from collections.abc import Iterable

PLATE_KEYS = ["Metadata_Source", "Metadata_Plate"]
WELL_KEYS = [*PLATE_KEYS, "Metadata_Well"]
SITE_KEYS = [*WELL_KEYS, "Metadata_Site"]

# Of tables of explanations: what blanking a channel adds to the probability of a call.
CHANGE = "Change_"

# What a sample sheet can say of where a plate lies and what is on it: `coda.gallery.plates.read_sample_sheet`.
PLACE_COLUMNS = ["root", "load_data", "images", "pattern", "plane", "time", "layout", "platemap"]

# Subsets of a source's plates: those that train or are adapted to, and the held-out one.
TRAIN, VALIDATION = "train", "validation"
# Splits that are scored: the plates of a target by subset; at home only the held-out plate counts (`VALIDATION`).
ADAPTED, HELD_OUT = TARGET_SPLITS = ("adapted", "held_out")
SPLIT_NAMES = {
    VALIDATION: "held-out plate of the training source",
    ADAPTED: "adapted plates",
    HELD_OUT: "held-out plate",
}


def sources_in_order(sources: Iterable[str]) -> list[str]:
    """Sort sources by their number: ``source_3`` before ``source_11``."""
    return sorted(set(sources), key=natural_order)


def natural_order(name: str) -> list[str | int]:
    """Key for sorting by which numbers within names count as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def source_name(source: str) -> str:
    """Write ``source_3`` as ``source 3``."""
    return source.replace("_", " ")
