"""The columns that tables share, the values of those that divide them, and their plain words."""

import re
from collections.abc import Iterable

PLATE_KEYS = ["Metadata_Source", "Metadata_Plate"]
WELL_KEYS = [*PLATE_KEYS, "Metadata_Well"]
SITE_KEYS = [*WELL_KEYS, "Metadata_Site"]

SPLIT_NAMES = {
    "validation": "validation plate of the training source",
    "adapted": "plates used in adaptation",
    "held_out": "plate kept out of adaptation",
}
TARGET_SPLITS = ("adapted", "held_out")


def sources_in_order(sources: Iterable[str]) -> list[str]:
    """Sort sources by their number: ``source_3`` before ``source_11``."""
    return sorted(set(sources), key=natural_order)


def natural_order(name: str) -> list[str | int]:
    """Key for sorting by which numbers within names count as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def source_name(source: str) -> str:
    """Write ``source_3`` as ``source 3``."""
    return source.replace("_", " ")
