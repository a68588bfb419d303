"""The log of a training, written after each epoch: a Parquet table, and events for TensorBoard."""

from pathlib import Path
from typing import Any

import pandas as pd

from coda.errors import UserError
from coda.files import write_table
from coda.training.settings import WatchSettings

# Names of the log's columns in a line of progress, in its order.
TOLD = {
    "loss": "loss",
    "teacher_entropy": "entropy",
    "centre_norm": "centre",
    "feature_deviation": "spread",
    "knn_accuracy": "kNN",
    "validation_accuracy": "validation",
    "learning_rate": "rate",
    "waiting_share": "waiting",
    "memory_gib": "GiB",
}


def event_writer() -> type:
    """Give the class that writes events for TensorBoard.

    Raises
    ------
    UserError
        If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "watch.tensorboard needs the package tensorboard: pip install tensorboard (under conda, "
            "add it to envs/torch.yaml), or set watch.tensorboard to false."
        ) from error
    return SummaryWriter


class TrainingLog:
    """Writes the rows of a training's log, one an epoch, wherever they are wanted.

    Parameters
    ----------
    path
        The Parquet table.
    watch
        Whether events for TensorBoard are written too, and into which folder.

    Raises
    ------
    UserError
        If events are wanted and TensorBoard is not installed.
    """

    def __init__(self, path: str, watch: WatchSettings):
        self.path, self.events, self.written = path, None, 0
        if watch.tensorboard:
            writer = event_writer()
            # The log holds the rows of earlier starts, so the events are written anew.
            for old in Path(watch.folder).glob("events.out.tfevents.*"):
                old.unlink()
            self.events = writer(str(watch.folder))

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        """Write all `rows`; those that are new become events."""
        write_table(pd.DataFrame(rows), self.path)
        if self.events is not None:
            for row in rows[self.written :]:
                for name in row.keys() - {"epoch", "step"}:
                    self.events.add_scalar(name, row[name], row["epoch"])
            self.written = len(rows)
            self.events.flush()


def facts(row: dict[str, Any]) -> dict[str, Any]:
    """Give what a line of progress says of an epoch's row."""
    return {word: row[name] for name, word in TOLD.items() if name in row}
