"""What is true in the simulated world: compounds, their effects and the morphology of each cell.

A cell's morphology is a vector of 17 traits in units of one; zero is an average untreated cell.
A mechanism of action (MoA) moves five traits; its compounds follow it with different strength and
add a small shift of their own; plates, wells and cells add noise. Images show these traits and
nothing else about the compound.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

TRAITS = (
    "cell_elongation",
    "nucleus_area",
    "nucleus_elongation",
    "nucleus_lobes",
    "chromatin_contrast",
    "chromatin_coarseness",
    "nucleolus_count",
    "nucleolus_size",
    "rna_cytoplasm",
    "er_spread",
    "er_contrast",
    "actin_fibres",
    "actin_spacing",
    "cell_border",
    "golgi_size",
    "mito_spread",
    "mito_fragments",
)
TRAITS_PER_MOA = 5
COMPOUND_STRENGTHS = (1.15, 0.85, 0.55)
OWN_SHIFT = 0.15  # of a compound, as a share of the mean MoA effect
PLATE_SD, WELL_SD, CELL_SD = 0.3, 0.25, 0.6
DMSO = "JCP2022_033924"  # the real identifier, which the public control tables name


def generator(seed: int, *names: object) -> np.random.Generator:
    """Random numbers that depend on the seed and on names only, never on what else is drawn.

    Parameters
    ----------
    seed
        The seed of the whole world.
    *names
        What the numbers are for, for example ``"well", "source_3", "JCPQC0101", "A01"``.
    """
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence([seed, *words.tolist()]))


@dataclass(frozen=True, eq=False)
class Compound:
    """One simulated compound: what the tables say about it and what it does to cells.

    Attributes
    ----------
    jcp, inchikey, broad_sample, name
        Identifiers in the style of JUMP.
    control_type
        ``"NA"``, ``"poscon_cp"`` or ``"negcon"``, as in the JUMP-Target-2 compound metadata.
    moa
        The MoA named by the Repurposing Hub; None where the hub says nothing.
    effect
        Shift of each trait in units, float64 of length ``len(TRAITS)``.
    """

    jcp: str
    inchikey: str
    broad_sample: str
    name: str
    control_type: str
    moa: str | None
    effect: np.ndarray


def make_compounds(settings: dict, seed: int) -> list[Compound]:
    """Invent the compounds of the world, the DMSO control last.

    Beside the labelled compounds there are the cases that a labelling rule must get right: a MoA
    with one compound only (under two sample ids), a ``poscon_cp`` control that has a MoA, and
    compounds without a MoA, whose effects are shared with nobody.

    Parameters
    ----------
    settings
        Uses ``moas``, ``compounds_per_moa``, ``unlabelled_compounds`` and ``effect``.
    seed
        The seed of the world.
    """
    low, high = settings["effect"]
    kinds = [
        (f"simulated mechanism {moa + 1:02d}", "NA", member)
        for moa in range(settings["moas"])
        for member in range(settings["compounds_per_moa"])
    ]
    kinds += [("simulated lone mechanism", "NA", 0), ("simulated mechanism 01", "poscon_cp", 99)]
    kinds += [(None, "NA", number) for number in range(settings["unlabelled_compounds"])]
    # Numbers are dealt at random: neither name nor identifier may reveal the MoA.
    numbers = generator(seed, "compound numbers").permutation(len(kinds)) + 1
    compounds = []
    for (moa, control_type, member), number in zip(kinds, numbers, strict=True):
        family = moa or f"no mechanism {member}"
        strength = COMPOUND_STRENGTHS[member % len(COMPOUND_STRENGTHS)]
        own = generator(seed, "own shift", family, control_type, member).normal(size=len(TRAITS))
        effect = strength * moa_effect(family, low, high, seed) + OWN_SHIFT * (low + high) / 2 * own
        compounds.append(invent(int(number), control_type, moa, effect, seed))
        if moa == "simulated lone mechanism":
            compounds.append(invent(int(number), control_type, moa, effect, seed, batch=2))
    dmso = Compound(
        DMSO, "IAZDPXIOMUYVGZ-UHFFFAOYSA-N", "", "DMSO", "negcon", None, np.zeros(len(TRAITS))
    )
    return [*compounds, dmso]


def moa_effect(family: str, low: float, high: float, seed: int) -> np.ndarray:
    """Shift of the traits by a MoA: five of them by `low` to `high` units, up or down."""
    random = generator(seed, "moa", family)
    effect = np.zeros(len(TRAITS))
    moved = random.choice(len(TRAITS), TRAITS_PER_MOA, replace=False)
    effect[moved] = random.uniform(low, high, TRAITS_PER_MOA) * random.choice(
        [-1, 1], TRAITS_PER_MOA
    )
    return effect


def invent(
    number: int, control_type: str, moa: str | None, effect: np.ndarray, seed: int, batch: int = 1
) -> Compound:
    """Give a compound identifiers of valid shape that are plainly simulated and reveal nothing."""
    random = generator(seed, "identifiers", number)
    letters = "".join(random.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 11))
    digits = int(random.integers(10**4))
    return Compound(
        jcp=f"JCP2022_2{digits // 100:02d}{number:03d}",
        inchikey=f"SIM{letters}-UHFFFAOYSA-N",
        broad_sample=f"BRD-K9{digits:04d}{number:03d}-001-{batch:02d}-9",
        name=f"sim-compound-{number:02d}",
        control_type=control_type,
        moa=moa,
        effect=effect,
    )


def plan_wells(
    compounds: list[Compound], settings: dict, wells: list[str], seed: int
) -> dict[str, Compound]:
    """Place the compounds at random wells, the same on all plates that have the same `wells`.

    Every labelled or unlabelled sample takes ``wells_per_compound`` wells, the control
    ``dmso_wells``; the order of the answer is that of `wells`, whatever the compounds.

    Parameters
    ----------
    compounds
        From `make_compounds`.
    settings
        Uses ``wells_per_compound`` and ``dmso_wells``.
    wells
        Names of all wells of the plate, in order. There must be enough of them.
    seed
        The seed of the world.
    """
    samples = [
        compound
        for compound in compounds
        for _ in range(
            settings["dmso_wells"] if compound.jcp == DMSO else settings["wells_per_compound"]
        )
    ]
    places = generator(seed, "layout", len(wells)).choice(len(wells), len(samples), replace=False)
    layout = {wells[place]: compound for place, compound in zip(places, samples, strict=True)}
    return {well: layout[well] for well in wells if well in layout}


def well_traits(compound: Compound, source: str, plate: str, well: str, seed: int) -> np.ndarray:
    """Mean traits of the cells of a well in units: effect, plate noise and well noise."""
    plate_shift = generator(seed, "plate traits", source, plate).normal(0, PLATE_SD, len(TRAITS))
    well_shift = generator(seed, "well traits", source, plate, well).normal(0, WELL_SD, len(TRAITS))
    return compound.effect + plate_shift + well_shift


def cell_traits(mean: np.ndarray, cells: int, random: np.random.Generator) -> np.ndarray:
    """Traits of single cells in units, float32 ``(cells, 17)``, around the mean of their well."""
    return (mean + random.normal(0, CELL_SD, (cells, len(TRAITS)))).astype(np.float32)
