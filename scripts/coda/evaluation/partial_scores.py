"""Scores of one training source, as files: sources are scored side by side and compared afterwards."""

from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from coda.errors import UserError
from coda.evaluation.estimates import Estimate, Estimates, Key
from coda.evaluation.metrics import Score
from coda.files import read_table, write_table


@dataclass
class SourceScores:
    """What was trained on a source, scored.

    Attributes
    ----------
    runs : pandas.DataFrame
        Every training run by itself: `coda.evaluation.estimates.estimates_table`.
    means : Estimates
        The same averaged over seeds, with their replicates, before they are compared.
    plates : pandas.DataFrame
        What was predicted, by plate: Metadata_Source, Metadata_Plate, path, sites and classes, the last two as digests.
    """

    runs: pd.DataFrame
    means: Estimates
    plates: pd.DataFrame

    def save(self, folder: str | Path) -> None:
        """Write one Parquet file each."""
        write_table(self.runs, Path(folder, "runs.parquet"))
        write_table(_as_table(self.means), Path(folder, "means.parquet"))
        write_table(self.plates, Path(folder, "plates.parquet"))

    @classmethod
    def load(cls, folder: str | Path) -> "SourceScores":
        """Read what `save` wrote."""
        return cls(
            read_table(Path(folder, "runs.parquet")),
            _as_estimates(read_table(Path(folder, "means.parquet"))),
            read_table(Path(folder, "plates.parquet")),
        )


def check_plate(plate: dict, seen: dict[tuple[str, str], dict]) -> None:
    """Refuse comparisons on different images, or of different classes.

    Parameters
    ----------
    plate
        A row of `SourceScores.plates`.
    seen
        Such rows that came before, by source and plate; a new plate is added.

    Raises
    ------
    UserError
        Naming the two files that differ.
    """
    source, name = plate["Metadata_Source"], plate["Metadata_Plate"]
    before = seen.setdefault((source, name), plate)
    first = next(iter(seen.values()))
    if plate["classes"] != first["classes"]:
        raise UserError(
            f"{plate['path']} and {first['path']} differ in their classes; train on the same labels."
        )
    if plate["sites"] != before["sites"]:
        raise UserError(
            f"{plate['path']} and {before['path']} hold different sites of plate {name}; "
            "remove both and predict again."
        )


def _as_table(estimates: Estimates) -> pd.DataFrame:
    """One estimate a row, replicates as lists."""
    table = pd.DataFrame(
        [
            {
                **key._asdict(),
                "metric": metric,
                "value": estimate.score.value,
                "reason": estimate.score.reason,
                **{name: getattr(estimate, name) for name in _FIELDS},
            }
            for key, by in estimates.items()
            for (metric, _), estimate in by.items()
        ]
    )
    return table.assign(compounds=table["compounds"].map(sorted))


def _as_estimates(table: pd.DataFrame) -> Estimates:
    estimates: Estimates = defaultdict(dict)
    table = table.assign(reason=table["reason"].astype(object).where(table["reason"].notna(), None))
    table["compounds"] = table["compounds"].map(frozenset)
    for row in table.to_dict("records"):
        key = Key(*(row[name] for name in Key._fields))
        known = {name: row[name] for name in _FIELDS}
        estimates[key][row["metric"], None] = Estimate(Score(row["value"], row["reason"]), **known)
    return estimates


_FIELDS = [field.name for field in fields(Estimate) if field.name != "score"]
