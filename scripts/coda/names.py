"""Plain words, and their order, for the short names in paths and tables."""

import re
from collections.abc import Iterable

from coda.methods import METHODS

METHOD_NAMES = {
    "in_domain": "In domain",
    **{name: method.label for name, method in METHODS.items()},
    "chance": "Constant guess",
}
SPLIT_NAMES = {
    "validation": "validation plate of the training source",
    "adapted": "plates used in adaptation",
    "held_out": "plate kept out of adaptation",
}
TARGET_SPLITS = ("adapted", "held_out")


def method_name(method: str) -> str:
    """Plain words for a method, as in legends and tables."""
    return METHOD_NAMES.get(method, method.replace("_", " "))


def in_order(methods: Iterable[str]) -> list[str]:
    """Sort methods as the figures show them: those known in their order, then others by name."""
    known = list(METHOD_NAMES)
    return sorted(
        set(methods), key=lambda name: (known.index(name) if name in known else len(known), name)
    )


def sources_in_order(sources: Iterable[str]) -> list[str]:
    """Sort sources by their number: ``source_3`` before ``source_11``."""
    return sorted(set(sources), key=natural_order)


def natural_order(name: str) -> list[str | int]:
    """Key for sorting by which numbers within names count as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def source_name(source: str) -> str:
    """Write ``source_3`` as ``source 3``."""
    return source.replace("_", " ")
