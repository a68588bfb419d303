"""Methods: what is compared, each made of images, an adaptation, an alignment and a head, whose name they make up."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from coda.errors import UserError, did_you_mean

# Ways to adapt a foundation to a target, in step 3 of the protocol.
ADAPTATIONS = {
    "oda": "ODA (no partners)",
    "coda": "CODA",
    "coda_consensus": "CODA with consensus",
    "coda_batch": "CODA, other batches only",
    "coda_labs": "CODA across labs",
    "coda_replay": "CODA with replay",
}
# Which sites give the statistics by which a target's tokens are mapped to those of the training source.
ALIGNMENTS = {"all": "aligned", "means": "means aligned", "dmso": "aligned on DMSO"}
# Simple classifiers on embeddings, in place of the task model.
PROBES = {
    "knn": "kNN",
    "knn_sphered": "kNN, sphered",
    "linear": "linear probe",
    "linear_sphered": "linear probe, sphered",
}
CONTROLS = {"intensity": "Control: intensities only", "position": "Control: well position only"}
# Classifiers on features that cp_measure takes of cells, without any network, and how sources are brought together.
PROFILES = {
    "measured": "Measured features",
    "measured_sphered": "Measured features, sphered",
    "measured_harmony": "Measured features, Harmony",
}
# Ways to adapt the supervised network, which has no foundation of its own.
OWN = {"tent": "TENT", "adabn": "AdaBN", "consensus": "consensus"}
# Those in which its batch norms take the statistics of each plate.
WITH_PLATE_NORMS = ("adabn", "consensus")
# Heads that are a method by themselves: no foundation that could be adapted or aligned is read through them.
ALONE = {"supervised": "Supervised", "shuffled": "Control: shuffled labels", **PROFILES, **CONTROLS}
FOUNDATIONS = {"unadapted": "Unadapted", **ADAPTATIONS, "oracle": "Trained on the target"}
# Whether the target's images are harmonised first (`coda.crops.harmonisation`).
HARMONISED = (False, True)


@dataclass(frozen=True)
class Method:
    """One method, as composed.

    Attributes
    ----------
    adaptation : str
        One of `FOUNDATIONS`, or one of `OWN` for the supervised network.
    alignment : str or None
        One of `ALIGNMENTS`.
    head : str
        What names the class: ``"task_model"``, one of `PROBES` or one of `ALONE`.
    harmonised : bool
        Whether the target's images are harmonised first.
    """

    adaptation: str = "unadapted"
    alignment: str | None = None
    head: str = "task_model"
    harmonised: bool = False

    @property
    def name(self) -> str:
        """The name in the config and in paths: the parts in their order, without those that are the default."""
        if self.head in ALONE:
            parts = [self.head, "" if self.adaptation == "unadapted" else self.adaptation]
        else:
            aligned = "aligned" if self.alignment == "all" else f"aligned_{self.alignment}"
            parts = [self.adaptation, aligned if self.alignment else ""]
            parts += [self.head if self.head in PROBES else ""]
        return "_".join(filter(None, ["harmonised" if self.harmonised else "", *parts]))

    @property
    def label(self) -> str:
        """Plain words for figures and tables."""
        first = ALONE.get(self.head) or FOUNDATIONS[self.adaptation]
        if self.adaptation in OWN:
            first += f" with {OWN[self.adaptation]}"
        parts = [first, "harmonised" if self.harmonised else None]
        if parts == [FOUNDATIONS["unadapted"], "harmonised"]:
            parts = ["Harmonised"]
        parts += [ALIGNMENTS.get(self.alignment), PROBES.get(self.head)]
        return ", ".join(filter(None, parts))

    @property
    def kind(self) -> str:
        """What predicts.

        A ``"network"``, a ``"probe"`` on its embeddings, measured ``"profiles"`` of wells or a ``"control"`` without
        morphology.
        """
        if self.head in PROBES:
            return "probe"
        if self.head in PROFILES:
            return "profiles"
        return "control" if self.head in CONTROLS else "network"

    @property
    def network(self) -> str:
        """Name of the method whose embeddings a probe reads."""
        return replace(self, head="task_model").name

    @property
    def foundation(self) -> str:
        """Name of the method whose adapted foundation it reads, however aligned and whatever the head."""
        return replace(self, alignment=None, head="task_model").name

    @property
    def sphered(self) -> bool:
        """Whether the head reads sphered embeddings or features."""
        return self.head.endswith("_sphered")

    @property
    def needs_dmso(self) -> bool:
        """Whether it is empty without negative controls; harmonisation takes all wells then."""
        return self.alignment == "dmso" or self.sphered

    @property
    def correction(self) -> str:
        """How measured features of two sources are brought together: ``"none"``, ``"sphered"`` or ``"harmony"``."""
        return self.head.removeprefix("measured").removeprefix("_") or "none"

    @property
    def at_home(self) -> bool:
        """Whether it is also shown on the training source's own held-out plate."""
        return self.adaptation == "unadapted"

    @property
    def adapts(self) -> bool:
        """Whether it uses images of the target: without labels, but for the oracle."""
        return (
            not self.at_home
            or bool(self.alignment)
            or self.sphered
            or self.harmonised
            or self.correction == "harmony"
        )

    @property
    def plate_norms(self) -> bool:
        """Whether batch norms take the statistics of each plate."""
        return self.adaptation in WITH_PLATE_NORMS

    @property
    def before(self) -> str | None:
        """Name of the method that it is compared with.

        Where it adapts, the same head before it saw the target; otherwise the unadapted task model, which
        is compared with nothing.
        """
        if not self.adapts:
            return None if self == Method() else "unadapted"
        plain = replace(self, adaptation="unadapted", alignment=None, harmonised=False)
        if plain == self:
            plain = replace(self, head=self.head.removesuffix("_sphered").removesuffix("_harmony"))
        return plain.name

    @property
    def steps(self) -> list[str]:
        """Names of the methods on the way to it: unadapted, harmonised, adapted, aligned; each once, itself last."""
        whole = [
            Method(),
            Method(harmonised=self.harmonised),
            replace(self, alignment=None, head="task_model"),
            replace(self, head="task_model"),
            self,
        ]
        return list(dict.fromkeys(each.name for each in whole))

    @property
    def closes_gap(self) -> bool:
        """Whether the gap is its own: it adapts, and its head is the task model, as at both ends of the gap."""
        return self.adapts and self.before == "unadapted"


def _compositions() -> Iterator[Method]:
    """Everything that can be composed, in the order of figures and tables."""
    tokens = list(product(("unadapted", *ADAPTATIONS), HARMONISED, (None, *ALIGNMENTS)))
    for adaptation, harmonised, alignment in tokens:
        yield Method(adaptation, alignment, harmonised=harmonised)
    yield Method("oracle")
    for adaptation, harmonised in product(("unadapted", *OWN), HARMONISED):
        yield Method(adaptation, head="supervised", harmonised=harmonised)
    for head, (adaptation, harmonised, alignment) in product(PROBES, tokens):
        probe = Method(adaptation, alignment, head, harmonised)
        # Sphering undoes what alignment does: it divides by the spread of each dimension itself.
        if not (probe.sphered and alignment):
            yield probe
    for head in ("shuffled", *PROFILES, *CONTROLS):
        yield Method(head=head)


COMPOSED = {made.name: made for made in _compositions()}

# The methods that answer a question of the study.
METHODS = {
    "unadapted": "How well does a classifier of one lab do in another, as it is?",
    "oda": "Does training on the target's images help, without pairs of replicates?",
    "coda": "Does it help more with pairs of replicates from other plates, as in the paper?",
    "coda_consensus": "Does it help to hold each site to what the task model finds in all wells of its compound?",
    "coda_batch": "Do pairs from different batches alone do better?",
    "unadapted_aligned": "How far does matching the statistics of tokens lead, without any training?",
    "unadapted_aligned_dmso": "And matching those of the negative controls alone?",
    "coda_aligned": "Do adaptation and alignment add up?",
    "coda_aligned_dmso": "And with alignment on the negative controls alone?",
    "harmonised_unadapted": "How far do images with the spectra of the training source lead, without any training?",
    "harmonised_unadapted_aligned_dmso": "And with tokens aligned on the negative controls too?",
    "harmonised_coda": "Does adaptation help on harmonised images?",
    "harmonised_coda_aligned_dmso": "And with alignment on the negative controls?",
    "harmonised_coda_consensus": "Do harmonised images and the consensus add up?",
    "supervised": "Does a network trained end to end do as well, without a foundation?",
    "harmonised_supervised": "Does such a network gain as much from harmonised images?",
    "supervised_tent": "Or does it once adapted by the entropy of its predictions (TENT)?",
    "supervised_adabn": "Or does one with batch norms, once these have the statistics of each plate (AdaBN)?",
    "harmonised_supervised_adabn": "Do plates' statistics and harmonised images add up?",
    "harmonised_supervised_consensus": "And does it help to hold each image to what such a network finds in all wells?",
    "unadapted_linear_sphered": "Does a linear probe on sphered embeddings, the common practice, do as well?",
    "measured": "Do features measured from cells, as by CellProfiler, do as well, read by a linear classifier?",
    "measured_sphered": "And sphered on the negative controls of each lab?",
    "measured_harmony": "And with labs brought together by Harmony?",
    "oracle": "How well would the pipeline do with the target's own labels?",
    "shuffled": "How often is the pipeline right with labels that mean nothing?",
    "intensity": "How much do the mean and spread of each channel tell, without morphology?",
    "position": "How much does the position on the plate tell?",
}

# Rows of scores that are no method have names too.
NAMES = {
    "in_domain": "At home",
    **{name: made.label for name, made in COMPOSED.items()},
    "chance": "Constant guess",
}


def method(name: str) -> Method:
    """Give the method of a name.

    Raises
    ------
    UserError
        If nothing composes that name; with the nearest that there is.
    """
    if name in COMPOSED:
        return COMPOSED[name]
    raise UserError(
        f"The config key methods has an unknown entry {name}{did_you_mean(name, COMPOSED)} "
        "A name joins an adaptation, an alignment and a head, as coda_aligned_dmso_linear does: see config/README.md."
    )


def composed(parts: dict[str, str | bool]) -> Method:
    """Give the method that has the given parts, the others being their defaults.

    Parameters
    ----------
    parts
        Any of ``harmonised``, ``adaptation``, ``alignment`` and ``head``.

    Raises
    ------
    UserError
        If a part is unknown, or the parts do not go together.
    """
    for part, value in parts.items():
        known = {getattr(made, part) for made in COMPOSED.values()} - {None}
        if value not in known:
            hint = did_you_mean(value, known, f"; known are {', '.join(sorted(known))}.")
            raise UserError(f"The config key methods has an unknown {part} {value}{hint}")
    made = Method(**parts)
    if made not in COMPOSED.values():
        words = ", ".join(f"{part}: {value}" for part, value in parts.items())
        raise UserError(
            f"The config key methods has {{{words}}}, which do not go together; see config/README.md."
        )
    return made


def chosen_methods(entries: list[str | dict[str, str | bool]]) -> list[str]:
    """Resolve the config's list of methods to their names.

    Parameters
    ----------
    entries
        Names, or mappings as `composed` takes them.

    Raises
    ------
    UserError
        On what is no method, or if the method that all others are compared with is missing.
    """
    names = [
        (method(entry) if isinstance(entry, str) else composed(entry)).name for entry in entries
    ]
    if "unadapted" not in names:
        raise UserError(
            "The config key methods lacks unadapted, which all others are compared with."
        )
    return list(dict.fromkeys(names))


def shown_after(methods: Sequence[str], wanted: str | None = None) -> str | None:
    """Give the method that figures of a single pair show beside the unadapted one.

    Parameters
    ----------
    methods
        Names of all that are compared.
    wanted
        One of them; None for the last that adapts without labels and is read through the task model.

    Returns
    -------
    str or None
        None where no method does.

    Raises
    ------
    UserError
        If the one that is wanted is not compared, or does not adapt so.
    """
    able = [
        name
        for name in methods
        if COMPOSED[name].closes_gap and COMPOSED[name].adaptation != "oracle"
    ]
    if wanted is None:
        return able[-1] if able else None
    if wanted not in able:
        raise UserError(
            f"figures.after is {wanted}, which is not among the methods that adapt without labels under the task model"
            f"{did_you_mean(wanted, able, '; choose one of: ' + ', '.join(able) + '.')}"
        )
    return wanted


def names_of(kind: str) -> list[str]:
    """Names of everything that can be composed of a kind: network, probe or control."""
    return [name for name, made in COMPOSED.items() if made.kind == kind]


def control_name(name: str) -> str:
    """Plain words for a control within a sentence that calls it so."""
    return method_name(name).removeprefix("Control: ")


def compared_with(name: str) -> str | None:
    """Name of the method that a row of scores is compared with; some rows are no method."""
    return COMPOSED[name].before if name in COMPOSED else "unadapted"


def method_name(method: str) -> str:
    """Plain words for a method, as in legends and tables."""
    return NAMES.get(method, method.replace("_", " "))


def in_order(methods: Iterable[str]) -> list[str]:
    """Sort methods as figures show them: by head, adaptation, images and alignment; what is unknown last, by name."""
    place = {name: number for number, name in enumerate(NAMES)}
    return sorted(set(methods), key=lambda name: (place.get(name, len(place)), name))
