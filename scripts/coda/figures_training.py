"""Training curves: loss, learning rate and the signs of collapse, one line a run."""

import numpy as np
import pandas as pd

from coda.errors import UserError
from coda.style import FAINT, MM, PALETTE, Drawing, new_figure, style

PANELS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "knn_accuracy": "kNN accuracy",
    "validation_accuracy": "validation accuracy",
    "teacher_entropy": "entropy of the teacher (nats)",
    "feature_deviation": "spread of the features",
    "learning_rate": "learning rate",
    "samples_per_second": "samples per second",
}
STYLES = ("-", "--", ":", "-.")


def training_curves(runs: dict[str, pd.DataFrame], prototypes: int | None = None) -> Drawing:
    """Draw every quantity the runs have logged over the epochs, one small panel each.

    Parameters
    ----------
    runs
        Name of a run to its table: epoch (or step) and any of the columns of `PANELS`. Absent columns leave out
        a panel or a line. Steps are averaged by epoch.
    prototypes
        If given, a line in the loss panel marks ln(prototypes), where a collapsed run stays.
    """
    tables = {name: _by_epoch(table) for name, table in runs.items()}
    panels = [column for column in PANELS if any(column in table for table in tables.values())]
    if not panels:
        raise UserError(
            f"The training logs hold none of the columns {', '.join(PANELS)}; there is nothing to draw."
        )
    across = min(3, len(panels))
    rows = -(-len(panels) // across)
    with style():
        figure = new_figure(
            (16 + 4 * -(-(len(runs) + 1) // across) + 42 * rows) * MM, width=60 * across * MM
        )
        grid = figure.subplots(rows, across, squeeze=False).ravel()
        for axes, column in zip(grid, panels, strict=False):
            for index, (name, table) in enumerate(tables.items()):
                if column in table and table[column].notna().any():
                    colour, line = (
                        PALETTE[index % len(PALETTE)],
                        STYLES[index // len(PALETTE) % len(STYLES)],
                    )
                    marker = "o" if table[column].notna().sum() < 3 else None
                    logged = table[table[column].notna()]
                    axes.plot(
                        logged.index,
                        logged[column],
                        color=colour,
                        linestyle=line,
                        marker=marker,
                        markersize=3,
                        label=name,
                    )
            if column == "loss" and prototypes:
                axes.axhline(
                    np.log(prototypes),
                    color=FAINT,
                    linewidth=0.8,
                    linestyle=(0, (1, 1.5)),
                    label="ln(prototypes): collapse",
                )
            axes.set_title(PANELS[column])
            axes.grid(axis="y")
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes in grid[max(0, len(panels) - across) : len(panels)]:
            axes.set_xlabel(
                "epoch" if all(table.index.name == "epoch" for table in tables.values()) else "step"
            )
        known = {
            label: handle
            for axes in grid[: len(panels)]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(known.values(), known.keys(), loc="outside upper left", ncols=across)
    table = pd.concat(
        [table.reset_index().assign(run=name) for name, table in tables.items()], ignore_index=True
    )
    return Drawing(figure, table)


def _by_epoch(table: pd.DataFrame) -> pd.DataFrame:
    key = "epoch" if "epoch" in table else "step"
    if key not in table:
        raise UserError("A training log has neither a column epoch nor a column step; train again.")
    columns = [name for name in PANELS if name in table]
    return table.groupby(key)[columns].mean()
