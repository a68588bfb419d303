"""Harmonisation in pictures: filters and spectra of a target's plates, and images of both labs before and after."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from coda.columns import natural_order, source_name
from coda.crops.harmonisation import Harmonisation, Harmoniser, describe_reference, standardised
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.figures.style import (
    FAINT,
    INK,
    MM,
    PALETTE,
    WIDTH,
    Drawing,
    look,
    new_figure,
    scale_bar,
    shortened,
    style,
)

ROWS = ("power (µm²)", "gain", "gain from the\nother channels")
BEFORE = {"linewidth": 0.8, "linestyle": (0, (1, 1.5))}
WANTED = {"color": INK, "linewidth": 1.0, "linestyle": "--"}
OTHERS = PALETTE[4:] + PALETTE[:4]  # colours of channels, apart from those of the first plates
TILE = 36 * MM  # most of a crop's side
NAME = 16  # characters of a treatment's name beside a crop
DARKEST, BRIGHTEST = -1.5, 4.0  # standard deviations from a crop's mean that become black and white


def harmonisation_curves(harmonisations: Sequence[Harmonisation]) -> Drawing:
    """Draw the filters of a target's plates over frequency, a column a channel.

    Above: the power of the channel in each plate, before and after, and in the training source. Middle: its gain
    in each plate, the diagonal of T. Below: what the other channels add to it, or take away where they bled
    through, the rest of T, as the mean over the plates.

    Parameters
    ----------
    harmonisations
        Filters of the plates of one target.

    Returns
    -------
    Drawing
        The table has a row a plate, frequency and pair of channels.

    Raises
    ------
    UserError
        If the plates' channels differ.
    """
    plates = sorted(harmonisations, key=lambda each: natural_order(each.plate))
    channels = plates[0].channels
    if any(each.channels != channels for each in plates):
        raise UserError("The plates of a target have different channels; make their crops again.")
    training = source_name(plates[0].training_source)
    with style():
        figure = new_figure((112 + 4 * len(plates)) * MM)
        grid = figure.subplots(3, len(channels), sharex=True, sharey="row", squeeze=False)
        for channel, column in enumerate(grid.T):
            column[0].set(yscale="log", title=channels[channel])
            column[1].axhline(1, color=FAINT, linewidth=0.6)
            column[2].axhline(0, color=FAINT, linewidth=0.6)
            for number, plate in enumerate(plates):
                _draw_plate(column, plate, channel, *look(number))
            _draw_others(column[2], plates, channel)
            for axes in column:
                axes.grid(axis="y")
        for axes, words in zip(grid[:, 0], ROWS, strict=True):
            axes.set_ylabel(words)
        for axes in grid[-1]:
            axes.set_xlabel("cycles per µm")
        figure.suptitle(f"{source_name(plates[0].source)}, harmonised to {training}".capitalize())
        handles = [
            Line2D([], [], color=look(number)[0], marker=look(number)[1], markersize=3,
                   label=f"{plate.plate}, by {describe_reference(plate)}")
            for number, plate in enumerate(plates)
        ]  # fmt: skip
        kinds = ("before", BEFORE | {"color": INK}), ("after", {"color": INK}), (training, WANTED)
        handles += [Line2D([], [], label=label, **looks) for label, looks in kinds]
        handles += [
            Line2D([], [], color=OTHERS[number % len(OTHERS)], linewidth=2.5, label=f"from {name}")
            for number, name in enumerate(channels)
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=4)
    return Drawing(figure, pd.concat([_as_table(plate) for plate in plates], ignore_index=True))


def _draw_plate(
    column: Sequence[Axes], plate: Harmonisation, channel: int, colour: str, marker: str
) -> None:
    at, itself = plate.frequency, (slice(None), channel, channel)
    every = max(1, len(at) // 4)
    looks = {"color": colour, "marker": marker, "markersize": 3, "markevery": every}
    column[0].plot(at, plate.before[itself], color=colour, **BEFORE)
    column[0].plot(at, plate.after[itself], **looks)
    column[0].plot(at, plate.wanted[itself], **WANTED)
    column[1].plot(at, plate.gain[itself], **looks)


def _draw_others(axes: Axes, plates: Sequence[Harmonisation], channel: int) -> None:
    bins = min(len(plate.gain) for plate in plates)
    gain = np.mean([plate.gain[:bins, channel] for plate in plates], axis=0)
    for other in range(gain.shape[1]):
        if other != channel:
            colour = OTHERS[other % len(OTHERS)]
            axes.plot(plates[0].frequency[:bins], gain[:, other], color=colour)


def _as_table(plate: Harmonisation) -> pd.DataFrame:
    bins, channels, _ = plate.gain.shape
    index = pd.MultiIndex.from_product([plate.frequency, plate.channels, plate.channels])
    values = {
        "gain": plate.gain,
        "spectrum_before": plate.before,
        "spectrum_wanted": plate.wanted,
        "spectrum_after": plate.after,
    }
    table = pd.DataFrame({name: value.ravel() for name, value in values.items()}, index)
    table = table.rename_axis(["frequency_per_um", "channel_to", "channel_from"]).reset_index()
    table.insert(0, "Metadata_Plate", plate.plate)
    table.insert(0, "Metadata_Source", plate.source)
    return table


def treatment_strips(
    target: CropStore,
    training: CropStore,
    harmonisation: Harmonisation,
    treatments: Sequence[str],
    seed: int = 0,
) -> Drawing:
    """Show treatments as the target has them, harmonised, and as the training source has them, a column a channel.

    Crops are drawn as networks see them: each channel less its mean, over its standard deviation.

    Parameters
    ----------
    target, training
        Crops of one plate of each lab.
    harmonisation
        The filter of the target's plate.
    treatments
        Their ``Metadata_JCP2022``, or ``"negcon"`` for a negative control.
    seed
        Seed of the choice of sites.

    Returns
    -------
    Drawing
        The table lists the crops shown, two a treatment.

    Raises
    ------
    UserError
        If a plate has no site of a treatment of good quality.
    """
    random = np.random.default_rng(seed)
    plate = (harmonisation.source, harmonisation.plate)
    apply = Harmoniser({plate: harmonisation}, "cpu")
    source, other = (
        source_name(name) for name in (harmonisation.source, harmonisation.training_source)
    )
    own = target.um_per_pixel(harmonisation.source)
    # Harmonised crops may have the pixel size of the training source.
    sizes = [own, own and harmonisation.to_um_per_pixel]
    sizes.append(training.um_per_pixel(harmonisation.training_source))
    lines, tables = [], []
    for treatment in treatments:
        rows = [_one_site(store, treatment, random) for store in (target, training)]
        before, wanted = (
            store.gather([row]) for store, row in zip((target, training), rows, strict=True)
        )
        after = apply(torch.from_numpy(before), [plate]).numpy()
        words = (source, f"{source},\nharmonised", other)
        name = _name_of(target, rows[0])
        lines += [
            (f"{name}\n{who}", image, um)
            for who, image, um in zip(words, (before, after, wanted), sizes, strict=True)
        ]
        tables += [
            store.table.iloc[[row]].filter(like="Metadata_")
            for store, row in zip((target, training), rows, strict=True)
        ]
    with style():
        across = len(target.channels) + 0.8
        tile = min(WIDTH / across, TILE)
        figure = new_figure(len(lines) * tile + 10 * MM, tile * across)
        grid = figure.subplots(len(lines), len(target.channels), squeeze=False)
        for line, (words, image, um) in zip(grid, lines, strict=True):
            line[0].set_ylabel(words, rotation=0, ha="right", va="center")
            for axes, pixels in zip(line, standardised(image)[0], strict=True):
                axes.imshow(pixels, cmap="gray", vmin=DARKEST, vmax=BRIGHTEST)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            scale_bar(line[0], um)
        for axes, channel in zip(grid[0], target.channels, strict=True):
            axes.set_title(channel)
    return Drawing(figure, pd.concat(tables, ignore_index=True))


def shown_by_both(target: CropStore, training: CropStore) -> list[str]:
    """Choose what to compare: the negative controls, where both plates have them, and the first compound of both."""
    tables = [store.table for store in (target, training)]
    chosen = []
    if all((table["Metadata_pert_type"] == "negcon").any() for table in tables):
        chosen.append("negcon")
    one, other = (
        set(table.loc[table["Metadata_pert_type"] != "negcon", "Metadata_JCP2022"].dropna())
        for table in tables
    )
    chosen += sorted(one & other)[:1]
    if not chosen:
        raise UserError(
            f"{target.paths[0]} and {training.paths[0]} have no compound in common to compare."
        )
    return chosen


def _name_of(store: CropStore, row: int) -> str:
    """Name a site's treatment as people know it."""
    site = store.table.iloc[row]
    name = site.get("Metadata_pert_iname")
    return shortened(str(site["Metadata_JCP2022"] if pd.isna(name) else name), NAME)


def _one_site(store: CropStore, compound: str, random: np.random.Generator) -> int:
    table = store.table
    column = "Metadata_pert_type" if compound == "negcon" else "Metadata_JCP2022"
    shown = (table[column] == compound).to_numpy()
    if "Quality_ok" in table:
        shown = shown & table["Quality_ok"].to_numpy(bool)
    if not shown.any():
        raise UserError(f"{store.paths[0]} has no site of {compound} of good quality to show.")
    return int(random.choice(np.flatnonzero(shown)))
