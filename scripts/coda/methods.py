"""The methods side by side: one table says what each is made of, what it needs and how it is called."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from coda.errors import UserError

ALL = "all"

# Foundations adapted to a target, in step 3 of the protocol.
ADAPTATIONS = {
    "oda": "ODA (no partners)",
    "coda": "CODA",
    "coda_batch": "CODA, other batches only",
    "coda_labs": "CODA across labs",
    "coda_replay": "CODA with replay",
}
# How tokens of the target are mapped to the training source's, by which sites.
ALIGNMENTS = {
    "aligned": "aligned",
    "aligned_means": "means aligned",
    "aligned_dmso": "aligned on DMSO",
}
# End to end, without a foundation.
SUPERVISED = {"supervised": "Supervised", "supervised_tent": "Supervised with TENT"}
PROBES = {"knn": "kNN", "linear": "linear probe"}


@dataclass(frozen=True)
class Method:
    """What a method is made of.

    Attributes
    ----------
    name : str
        As in the config and in paths.
    label : str
        Plain words for figures and tables.
    kind : str
        ``"network"`` (a foundation and a task model, or a network in one piece), ``"probe"`` (a simple
        classifier on embeddings) or ``"control"`` (sees no morphology).
    base : str
        Whose tokens or embeddings it takes: ``"unadapted"``, one of `ADAPTATIONS` or `SUPERVISED`,
        or ``"oracle"``; for a control its own name.
    treatment : str or None
        One of `ALIGNMENTS`, ``"shuffled"`` labels, or for a probe ``"sphered"``.
    probe : str or None
        One of `PROBES`.
    """

    name: str
    label: str
    kind: str
    base: str
    treatment: str | None = None
    probe: str | None = None

    @property
    def adapts(self) -> bool:
        """Whether it uses images of the target, without labels, or is the oracle."""
        on_target = self.base in (*ADAPTATIONS, "supervised_tent", "oracle")
        return on_target or self.treatment in (*ALIGNMENTS, "sphered")

    @property
    def before(self) -> str | None:
        """Name of the method it is compared with: what it was before it saw the target, where it adapts.

        A probe on adapted embeddings is compared with the same probe on those that are not; all that
        never adapts, with the unadapted task model (which is compared with nothing).
        """
        if self.name == "supervised_tent":
            return "supervised"
        if self.probe and self.base in ADAPTATIONS:
            return self.name.replace(self.base, "unadapted", 1)
        if self.treatment == "sphered":
            return self.name.removesuffix("_sphered")
        return None if self.name == "unadapted" else "unadapted"

    @property
    def closes_gap(self) -> bool:
        """Whether the gap is its own: it adapts, and at both ends of the gap stands its kind of task model."""
        return self.adapts and self.before == "unadapted"

    @property
    def at_home(self) -> bool:
        """Whether it is also shown on the training source's own validation plate."""
        return self.base not in (*ADAPTATIONS, "supervised_tent", "oracle")

    @property
    def needs_dmso(self) -> bool:
        """Whether it takes the negative controls as its reference."""
        return self.treatment in ("aligned_dmso", "sphered")


def _table() -> Iterable[Method]:
    foundations = {"unadapted": "Unadapted", **ADAPTATIONS}
    for base, label in foundations.items():
        yield Method(base, label, "network", base)
        for treatment, words in ALIGNMENTS.items():
            yield Method(f"{base}_{treatment}", f"{label}, {words}", "network", base, treatment)
    for base, label in SUPERVISED.items():
        yield Method(base, label, "network", base)
    for base in ("unadapted", "coda"):
        for probe, words in PROBES.items():
            name, label = f"{base}_{probe}", f"{foundations[base]}, {words}"
            yield Method(name, label, "probe", base, probe=probe)
            yield Method(f"{name}_sphered", f"{label}, sphered", "probe", base, "sphered", probe)
    yield Method("oracle", "Trained on the target", "network", "oracle")
    yield Method("shuffled", "Shuffled labels", "network", "unadapted", "shuffled")
    yield Method("intensity", "Intensities only", "control", "intensity")
    yield Method("position", "Well position only", "control", "position")


METHODS = {method.name: method for method in _table()}

METHOD_NAMES = {
    "in_domain": "In domain",
    **{name: method.label for name, method in METHODS.items()},
    "chance": "Constant guess",
}


def compared_with(name: str) -> str | None:
    """Name of the method that a row of scores is compared with; some rows are no method of the table."""
    return METHODS[name].before if name in METHODS else "unadapted"


def chosen_methods(names: list[str]) -> list[str]:
    """Resolve the config's list of methods: ``[all]`` is every one, in the order of the table.

    Raises
    ------
    UserError
        On an unknown name, with the nearest known one, or if the method that all others are compared with is missing.
    """
    if names == [ALL]:
        return list(METHODS)
    for name in names:
        if name not in METHODS:
            near = difflib.get_close_matches(name, [*METHODS, ALL], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(METHODS)}."
            if name == ALL:
                hint = "write methods: [all], with nothing beside it."
            raise UserError(f"The config key methods has an unknown entry {name}; {hint}")
    if "unadapted" not in names:
        raise UserError(
            "The config key methods lacks unadapted, which all others are compared with."
        )
    return names


def method_name(method: str) -> str:
    """Plain words for a method, as in legends and tables."""
    return METHOD_NAMES.get(method, method.replace("_", " "))


def in_order(methods: Iterable[str]) -> list[str]:
    """Sort methods as the figures show them: those known in their order, then others by name."""
    known = list(METHOD_NAMES)
    return sorted(
        set(methods), key=lambda name: (known.index(name) if name in known else len(known), name)
    )
