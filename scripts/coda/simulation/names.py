"""Names of simulated plates, wells and image files, in the style of their source."""

from dataclasses import dataclass

import numpy as np

from coda.errors import UserError
from coda.simulation.cells import CHANNELS
from coda.simulation.formats import SOURCES, Source
from coda.simulation.optics import MICROSCOPES, Lab
from coda.simulation.world import generator
from coda.wells import row_letters


@dataclass(frozen=True)
class Plate:
    """Names of one simulated plate: source, batch, plate, and its folder of images under the root; and its lab."""

    source: str
    batch: str
    plate: str
    number: int
    folder: str
    lab: Lab

    @property
    def style(self) -> Source:
        """The style of the source."""
        return SOURCES[self.source]


def plates_of(sources: dict) -> list[Plate]:
    """Name the Target-2 plates of a simulation.

    Parameters
    ----------
    sources
        ``{source: {"batches": int, "plates_per_batch": int}}``, the ``sources`` of the settings; also with ``like``,
        ``differs`` and ``cell_size``, see `coda.simulation.optics.Lab`.

    Returns
    -------
    list of Plate
        In the order of sources, batches and plates.

    Raises
    ------
    UserError
        If a source is unknown or has more than 99 batches, or 99 plates per batch,.
    """
    plates = []
    for source, counts in sources.items():
        if source not in SOURCES:
            raise UserError(
                f"The simulation knows {', '.join(SOURCES)}, not {source!r}: change simulation: sources."
            )
        if max(counts["batches"], counts["plates_per_batch"]) > 99:
            raise UserError(
                f"simulation: sources: {source}: more than 99 batches, or 99 plates per batch, cannot be named."
            )
        lab = lab_of(source, counts)
        for batch in range(1, counts["batches"] + 1):
            plates += [
                plate_names(source, batch, number, lab)
                for number in range(1, counts["plates_per_batch"] + 1)
            ]
    return plates


def lab_of(source: str, settings: dict) -> Lab:
    """Say whose imaging a source has: its own, or another's with what differs.

    Raises
    ------
    UserError
        If it names a source that is not known.
    """
    lab = Lab(
        settings.get("like", source),
        tuple(settings.get("differs", {}).items()),
        settings.get("cell_size", 1.0),
    )
    for origin in (lab.like, *dict(lab.differs).values()):
        if origin not in MICROSCOPES:
            raise UserError(
                f"simulation: sources: {source}: the simulation knows {', '.join(MICROSCOPES)}, not {origin!r}."
            )
    return lab


def plate_names(source: str, batch: int, plate: int, lab: Lab | None = None) -> Plate:
    """Names of plate `plate` of batch `batch`, both counted from 1, in the source's own lab by default."""
    batch_name, name, folder = SOURCES[source].names(batch, plate)
    folder = f"{source}/images/{batch_name}/images/{folder}"
    return Plate(source, batch_name, name, plate, folder, lab or Lab(source))


def well_names(grid: tuple[int, int]) -> list[str]:
    """Wells of a plate in reading order, A01 to P24 or AF48."""
    rows, columns = map(range, grid)
    return [f"{row_letters(row)}{column + 1:02d}" for row in rows for column in columns]


def file_names(plate: Plate, well: str, site: int, seed: int) -> dict[str, str]:
    """File name of each channel of a site.

    Parameters
    ----------
    plate
        The plate.
    well
        Name of the well, for example ``"B03"``.
    site
        Place of the site in the well, counted from 0 whatever the source's own count.
    seed
        Seed of the random identifiers in MetaXpress names.
    """
    style = plate.style
    row = well_names(style.grid).index(well) // style.grid[1] + 1
    column = int(well[-2:])
    names = {}
    for place, (channel, number) in enumerate(zip(CHANNELS, style.channels, strict=True)):
        if style.file == "harmony":
            names[channel] = f"r{row:02d}c{column:02d}f{site + 1:02d}p01-ch{number}sk1fk1fl1.tiff"
        elif style.file == "yokogawa":
            start = f"{style.prefix.format(plate=plate.number)}{plate.plate}_{well}_T0001F{site + 1:03d}"
            names[channel] = f"{start}L01A{style.actions[place]:02d}Z01C{number:02d}.tif"
        else:
            guid = random_guid(
                generator(seed, "guid", plate.source, plate.plate, well, site, channel)
            )
            names[channel] = f"HTS_{well}_s{site + 1}_w{number}{guid}.tif"
    return names


def thumbnail_name(name: str, plate: Plate, seed: int) -> str:
    """Name of the thumbnail that MetaXpress puts beside an image, with an identifier of its own."""
    start = name[: -len("00000000-0000-0000-0000-000000000000.tif")]
    return f"{start}_thumb{random_guid(generator(seed, 'thumbnail', plate.source, plate.plate, name))}.tif"


def random_guid(random: np.random.Generator) -> str:
    """A GUID in capitals, as MetaXpress writes it."""
    digits = random.bytes(16).hex().upper()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
