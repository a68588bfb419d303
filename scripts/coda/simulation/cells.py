"""Draw Cell Painting cells: the light a perfect microscope would see, before any optics.

A field is cut into cell territories around nuclei, and five stains are painted per pixel from the
traits of the cell the pixel belongs to. Lengths are micrometres throughout, so that a field looks
the same however it is sampled.
"""

from dataclasses import dataclass

import numpy as np

from coda.simulation.stains import Stains
from coda.simulation.textures import Noise
from coda.simulation.world import TRAITS

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
SPACING = 17.0  # um, least distance of two nuclei
REACH = 42.0  # um, how far a cell can stretch


@dataclass(frozen=True)
class Cells:
    """Geometry of the cells of a field.

    Attributes
    ----------
    x, y
        Nucleus centres in um from the field's upper left corner, float32 ``(n,)``.
    angle
        Long axis in radians.
    traits
        Units, float32 ``(n, 17)``, columns in the order of `TRAITS`.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    traits: np.ndarray

    def trait(self, name: str) -> np.ndarray:
        """One trait of all cells in units."""
        return self.traits[:, TRAITS.index(name)]


def place_nuclei(
    height_um: float, width_um: float, per_mm2: float, random: np.random.Generator
) -> np.ndarray:
    """Scatter nuclei over a field and a margin around it, no two closer than `SPACING`.

    Returns
    -------
    numpy.ndarray
        Rows of (y, x) in um, float32.
    """
    margin = 0.7 * REACH
    low = np.array([-margin, -margin])
    high = np.array([height_um + margin, width_um + margin])
    wanted = random.poisson(per_mm2 * 1e-6 * np.prod(high - low))
    placed = np.empty((wanted, 2), dtype=np.float32)
    count = 0
    for spot in random.uniform(low, high, (4 * wanted, 2)):
        if count == wanted:
            break
        if not count or ((placed[:count] - spot) ** 2).sum(axis=1).min() > SPACING**2:
            placed[count] = spot
            count += 1
    return placed[:count]


def draw(
    cells: Cells, shape: tuple[int, int], pixel_um: float, random: np.random.Generator
) -> np.ndarray:
    """Paint the five stains of a field.

    Parameters
    ----------
    cells
        The cells, in or near the field.
    shape
        Height and width in pixels.
    pixel_um
        Side of a pixel in um.
    random
        Source of the textures and of what differs between cells beside the traits.

    Returns
    -------
    numpy.ndarray
        Light of each stain, float32 ``(5, height, width)`` in the order of `CHANNELS`, zero where
        there is no cell and about one in the middle of a cell.
    """
    light = np.zeros((len(CHANNELS), *shape), dtype=np.float32)
    noise = Noise(shape, pixel_um, random)
    # Straight lines look drawn: nuclei sway a little, the outlines of cells a lot.
    places = np.indices(shape, dtype=np.float32) * np.float32(pixel_um)
    rows, columns = places + 0.35 * noise.smooth(3.0, count=2)
    sway = 2.2 * noise.smooth(6.0, count=2)
    owner, nearest, second = territories(cells, rows + sway[0], columns + sway[1], pixel_um)
    inside = np.flatnonzero(owner >= 0)
    if not len(inside):
        return light
    of = owner.ravel()[inside]
    reach, rival = nearest.ravel()[inside], second.ravel()[inside]
    down, right = rows.ravel()[inside] - cells.y[of], columns.ravel()[inside] - cells.x[of]
    u = right * np.cos(cells.angle)[of] + down * np.sin(cells.angle)[of]
    v = down * np.cos(cells.angle)[of] - right * np.sin(cells.angle)[of]
    stains = Stains(cells.traits, of, u, v, reach, rival, noise, inside, random)
    thick = stains.thickness()
    painted = (
        stains.dna(),
        thick * stains.er(),
        thick * stains.rna(),
        thick * stains.agp(),
        thick * stains.mito(),
    )
    dye = np.exp(random.normal(0, 0.12, (len(CHANNELS), len(cells.x)))).astype(np.float32)
    for channel, values in enumerate(painted):
        light[channel].ravel()[inside] = values * dye[channel][of]
    return light


def territories(
    cells: Cells, rows: np.ndarray, columns: np.ndarray, pixel_um: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give every pixel to the cell it is closest to, measured in that cell's own size.

    Returns
    -------
    owner
        Index of the cell, -1 where there is none, int32 ``(height, width)``.
    nearest, second
        Distance to that cell and to the next one; 1 is the edge of a cell that has room.
    """
    height, width = rows.shape[0], columns.shape[1]
    owner = np.full((height, width), -1, dtype=np.int32)
    nearest = np.ones((height, width), dtype=np.float32)
    second = np.full((height, width), 9.0, dtype=np.float32)
    aspect = 1.3 * np.exp(0.14 * cells.trait("cell_elongation"))
    long, short = 29 * np.sqrt(aspect), 29 / np.sqrt(aspect)
    for cell, (x, y, angle) in enumerate(zip(cells.x, cells.y, cells.angle, strict=True)):
        top, left = max(0, int((y - REACH) / pixel_um)), max(0, int((x - REACH) / pixel_um))
        bottom, end = int((y + REACH) / pixel_um) + 1, int((x + REACH) / pixel_um) + 1
        if bottom <= 0 or end <= 0 or top >= height or left >= width:
            continue
        window = np.s_[top:bottom, left:end]
        down, right = rows[window] - y, columns[window] - x
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along = (right * cosine + down * sine) * np.float32(1 / long[cell])
        across = (down * cosine - right * sine) * np.float32(1 / short[cell])
        distance = np.sqrt(along * along + across * across)
        closer = distance < nearest[window]
        second[window] = np.where(closer, nearest[window], np.minimum(second[window], distance))
        nearest[window] = np.where(closer, distance, nearest[window])
        owner[window][closer] = cell
    return owner, nearest, second
