"""Cross-batch partners: for each site, another site of the same compound, from as far away as possible.

CODA's positive pair is a site and a partner that shows the same compound in another experiment, so
that what the two share is the compound's effect and not the batch. The published code draws from any
other plate, which may lie in the same batch, and has no answer for a single plate; here the choice
falls back in steps that the config names, and the log says how many sites use which step.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from coda.errors import UserError

# Each rule draws from the sites that share `within` with the site and differ from it in `other`.
RULES = {
    "source": ("compound", "source"),
    "batch": ("compound", "batch"),
    "plate": ("compound", "plate"),
    "well": ("compound", "well"),
    "site": ("well", "site"),
}


@dataclass(frozen=True)
class Partners:
    """Where each site finds its partner, as ranges in one sorted order of sites.

    Sorted by compound, source, batch, plate and well, the sites that qualify are a range (same compound)
    less a smaller range inside it (same batch, say), so drawing a partner is a little arithmetic on
    four arrays, without a search per sample.

    Attributes
    ----------
    order : int64 array, shape (sites,)
        Site numbers in sorted order.
    start, size, hole_start, hole_size : int64 arrays, shape (sites,)
        Per site: the outer range and the excluded range inside it, as positions in `order`.
    rule : array of str, shape (sites,)
        The rule that serves each site, ``"none"`` where it can only be its own partner.
    """

    order: np.ndarray
    start: np.ndarray
    size: np.ndarray
    hole_start: np.ndarray
    hole_size: np.ndarray
    rule: np.ndarray

    def draw(self, sites: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw one partner for each of `sites`, uniformly among those its rule admits."""
        free = self.size[sites] - self.hole_size[sites]
        position = self.start[sites] + (generator.random(len(sites)) * free).astype(np.int64)
        position += np.where(position >= self.hole_start[sites], self.hole_size[sites], 0)
        return self.order[position]

    def describe(self) -> str:
        """Say how many sites use which rule, for the log."""
        names, counts = np.unique(self.rule, return_counts=True)
        words = {
            "source": "another source",
            "batch": "another batch",
            "plate": "another plate",
            "well": "another well of the compound",
        }
        words |= {"site": "another site of the well", "none": "themselves (no other site)"}
        return ", ".join(
            f"{count:,} sites from {words[name]}" for name, count in zip(names, counts, strict=True)
        )


def find_partners(table: pd.DataFrame, rules: list[str]) -> Partners:
    """Prepare the choice of partners.

    Parameters
    ----------
    table
        One row a site with ``Metadata_Source``, ``Metadata_Batch``, ``Metadata_Plate``, ``Metadata_Well``,
        ``Metadata_JCP2022``. A site without a compound counts its well as its compound.
    rules
        Names from `RULES`, the preferred one first. An empty list makes every site its own partner,
        which is DINO without cross-batch positives (called ODA in the paper).

    Raises
    ------
    UserError
        If a rule is unknown.
    """
    unknown = [name for name in rules if name not in RULES]
    if unknown:
        raise UserError(
            f"partners: unknown rule(s) {', '.join(unknown)}; known are {', '.join(RULES)}."
        )
    count = len(table)
    plate = table["Metadata_Source"] + "/" + table["Metadata_Batch"] + "/" + table["Metadata_Plate"]
    well = plate + "/" + table["Metadata_Well"]
    compound = table["Metadata_JCP2022"].where(table["Metadata_JCP2022"].notna(), well)
    batch = table["Metadata_Source"] + "/" + table["Metadata_Batch"]
    # Codes nest (compound, then batch within it, ...), so every group is one range of the sorted order.
    codes, groups = np.zeros(count, np.int64), {}
    for name, column in {
        "compound": compound,
        "source": table["Metadata_Source"],
        "batch": batch,
        "plate": plate,
        "well": well,
    }.items():
        fine = pd.factorize(column, sort=True)[0]
        codes = np.unique(codes * (fine.max(initial=0) + 1) + fine, return_inverse=True)[1].reshape(
            -1
        )
        groups[name] = codes
    order = np.argsort(codes, kind="stable").astype(np.int64)
    position = np.empty(count, np.int64)
    position[order] = np.arange(count)
    ranges = {name: _ranges(code) for name, code in groups.items()}
    ranges["site"] = position, np.ones(count, np.int64)

    start, size = position.copy(), np.ones(count, np.int64)
    hole_start, hole_size = position.copy(), np.zeros(count, np.int64)
    rule = np.full(count, "none", dtype=object)
    for name in rules:
        within, other = RULES[name]
        (outer, outer_size), (inner, inner_size) = ranges[within], ranges[other]
        fits = (rule == "none") & (outer_size > inner_size)
        start[fits], size[fits] = outer[fits], outer_size[fits]
        hole_start[fits], hole_size[fits] = inner[fits], inner_size[fits]
        rule[fits] = name
    return Partners(order, start, size, hole_start, hole_size, rule)


def _ranges(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and size, per site, of its group's range in the order sorted by `codes`."""
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return starts[codes].astype(np.int64), sizes[codes].astype(np.int64)
