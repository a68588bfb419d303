"""What each experiment compares: which predictions, on which plates and which compounds."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from coda.columns import ADAPTED, HELD_OUT, TRAIN, VALIDATION
from coda.evaluation.experiments import in_batch_order, plate_counts, spread_over_batches
from coda.files import read_table
from coda.training.site_selection import KEPT_OUT, USED

STANDARD = "standard"
BEFORE = "before"  # online: the networks as they were when the new plate came


class Part(NamedTuple):
    """Predictions that are scored together, and what they are called.

    Attributes
    ----------
    experiment, step, method, split
        As in the table of scores; `step` is None where an experiment has none.
    path
        The file of predictions.
    plates
        The plates that count.
    compounds
        The compounds that count; None for all.
    """

    experiment: str
    step: int | None
    method: str
    split: str
    path: str
    plates: tuple[str, ...]
    compounds: frozenset[str] | None = None

    @property
    def at_home(self) -> bool:
        """Whether the plates are the training source's: names of plates are only unique within a source."""
        return self.split in ("home", VALIDATION)


@dataclass
class Pair:
    """One training run on one pair of sources, and all that was predicted with it.

    Attributes
    ----------
    train_source, target_source, seed
    home, held_out : tuple of str
        Held-out plates of the training source and of the target.
    plates : list of (str, str)
        Batch and plate of those that adaptation may see.
    files : dict
        Experiment, method and predicted source to the path of the predictions.
    choices : dict
        ``"compounds"`` and ``"mix"`` to their tables; see `coda.evaluation.compound_splits`.
    """

    train_source: str
    target_source: str
    seed: int
    home: tuple[str, ...]
    held_out: tuple[str, ...]
    plates: list[tuple[str, str]]
    files: dict[tuple[str, str, str], str]
    choices: dict[str, pd.DataFrame]

    def methods(self, experiment: str) -> list[str]:
        """Methods that an experiment has predictions of the target from."""
        return sorted(
            m for p, m, place in self.files if (p, place) == (experiment, self.target_source)
        )

    def on_target(self, experiment: str, method: str) -> str:
        """Path of the predictions of the target."""
        return self.files[experiment, method, self.target_source]

    def at_home(self, experiment: str = STANDARD, method: str = "unadapted") -> str:
        """Path of the predictions of the training source itself."""
        return self.files[experiment, method, self.train_source]

    def compounds(self, choice: str, role: str) -> frozenset[str]:
        """Compounds that have a role in a choice."""
        table = self.choices[choice]
        return frozenset(table.loc[table["role"] == role, "Metadata_JCP2022"])

    def in_domain(
        self, experiment: str, step: int | None, compounds: frozenset | None = None
    ) -> Part:
        """The pipeline on the training source's own held-out plate."""
        return Part(experiment, step, "in_domain", VALIDATION, self.at_home(), self.home, compounds)


def plates_parts(pair: Pair, counts: list[int]) -> Iterator[Part]:
    """Growing numbers of plates: tested on those adapted to, on the others, and on the held-out plate."""
    order = spread_over_batches(pair.plates)
    for count in plate_counts(len(order), counts):
        experiment = STANDARD if count == len(order) else f"plates_{count}"
        yield pair.in_domain("plates", count)
        for method, own in (("unadapted", STANDARD), ("coda", experiment)):
            splits = {ADAPTED: order[:count], "unseen": order[count:], HELD_OUT: pair.held_out}
            for split, plates in splits.items():
                if plates:
                    path = pair.on_target(own, method)
                    yield Part("plates", count, method, split, path, tuple(plates))


def online_parts(pair: Pair) -> Iterator[Part]:
    """Plate after plate: the new plate before and after, all plates seen, the held-out plate, and home."""
    order = in_batch_order(pair.plates)
    before = plain = pair.on_target(STANDARD, "unadapted")
    for step in range(1, len(order) + 1):
        after = pair.on_target(f"online_{step}", "coda")
        new, seen = (order[step - 1],), tuple(order[:step])
        yield Part("online", step, BEFORE, "new", before, new)
        for method, path in (("unadapted", plain), ("coda", after)):
            yield Part("online", step, method, "new", path, new)
            yield Part("online", step, method, "seen", path, seen)
            yield Part("online", step, method, HELD_OUT, path, pair.held_out)
        yield Part("online", step, "unadapted", "home", pair.at_home(), pair.home)
        yield Part("online", step, "coda", "home", after, pair.home)
        before = after


def compounds_parts(pair: Pair) -> Iterator[Part]:
    """The classifier of some compounds, on those that it knows and on those that are new to it."""
    adapted = tuple(plate for _, plate in pair.plates)
    for experiment, role in (("new_compounds", KEPT_OUT), ("known_compounds", USED)):
        compounds = pair.compounds("compounds", role)
        for method in pair.methods("compounds"):
            path = pair.on_target("compounds", method)
            for split, plates in ((ADAPTED, adapted), (HELD_OUT, pair.held_out)):
                yield Part(experiment, None, method, split, path, plates, compounds)
            if ("compounds", method, pair.train_source) in pair.files:
                name = "in_domain" if method == "unadapted" else method
                path = pair.at_home("compounds", method)
                yield Part(experiment, None, name, VALIDATION, path, pair.home, compounds)


def mix_parts(pair: Pair) -> Iterator[Part]:
    """Half of the mechanisms, with what saw only them on the target and with what saw all of them."""
    adapted = tuple(plate for _, plate in pair.plates)
    compounds = pair.compounds("mix", USED)
    for experiment, own in (("half_mix", "mix"), ("whole_mix", STANDARD)):
        yield pair.in_domain(experiment, None, compounds)
        methods = {"unadapted": STANDARD} | dict.fromkeys(pair.methods("mix"), own)
        for method, source in methods.items():
            path = pair.on_target(source, method)
            for split, plates in ((ADAPTED, adapted), (HELD_OUT, pair.held_out)):
                yield Part(experiment, None, method, split, path, plates, compounds)


def find_pairs(runs: list[dict], choices: list[dict], plates: pd.DataFrame) -> list[Pair]:
    """Sort files of predictions and tables of choices by training run and pair of sources.

    Parameters
    ----------
    runs
        Of each file of predictions its ``train_source``, ``seed``, ``experiment`` (``"standard"`` beside the
        experiments), ``method``, ``target_source`` and ``path``.
    choices
        Of each table its ``train_source``, ``seed``, ``choice`` and ``path``.
    plates
        Metadata_Source, Metadata_Batch, Metadata_Plate and subset.
    """
    files: dict[tuple[str, int], dict] = defaultdict(dict)
    for run in runs:
        place = (run["experiment"], run["method"], run["target_source"])
        files[run["train_source"], run["seed"]][place] = run["path"]
    tables: dict[tuple[str, int], dict] = defaultdict(dict)
    for each in choices:
        tables[each["train_source"], each["seed"]][each["choice"]] = read_table(each["path"])

    def those(source: str, subset: str) -> pd.DataFrame:
        return plates[(plates["Metadata_Source"] == source) & (plates["subset"] == subset)]

    pairs = []
    for (source, seed), own in sorted(files.items()):
        for target in sorted({target for _, _, target in own} - {source}):
            seen = those(target, TRAIN)
            pairs.append(
                Pair(
                    source,
                    target,
                    seed,
                    home=tuple(those(source, VALIDATION)["Metadata_Plate"]),
                    held_out=tuple(those(target, VALIDATION)["Metadata_Plate"]),
                    plates=list(zip(seen["Metadata_Batch"], seen["Metadata_Plate"], strict=True)),
                    files=own,
                    choices=tables[source, seed],
                )
            )
    return pairs
