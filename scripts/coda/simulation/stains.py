"""Paint the five stains of Cell Painting from the traits of each cell.

What a unit of a trait does to a cell is written here, once: most traits scale a length or a
contrast by a constant factor per unit.
"""

import numpy as np

from coda.simulation.textures import Noise
from coda.simulation.world import TRAITS

NUCLEOLI = 6  # most that a nucleus has
TEXTURES_UM = (0.9, 1.4, 2.4, 4.0)


class Stains:
    """The five stains at the pixels inside cells; arrays hold one number per pixel.

    Parameters
    ----------
    traits
        Units, ``(cells, 17)``, columns in the order of `TRAITS`.
    of
        Index of the cell of each pixel.
    u, v
        Place of the pixel in um from the nucleus centre, along and across the cell's long axis.
    reach, rival
        Distance from the cell and from the next one, 1 at the edge of a cell that has room.
    noise
        Textures of the field.
    inside
        Flat index of each pixel in the field.
    random
        Source of what differs between cells beside the traits.
    """

    def __init__(
        self,
        traits: np.ndarray,
        of: np.ndarray,
        u: np.ndarray,
        v: np.ndarray,
        reach: np.ndarray,
        rival: np.ndarray,
        noise: Noise,
        inside: np.ndarray,
        random: np.random.Generator,
    ):
        self.traits, self.of, self.u, self.v = traits, of, u, v
        self.reach, self.rival, self.random = reach, rival, random
        self.cells = len(traits)
        self.textures = {length: noise.smooth(length)[0].ravel()[inside] for length in TEXTURES_UM}
        self.bends = noise.smooth(9.0, count=2).reshape(2, -1)[:, inside]
        # Place in the cell cycle: DNA and nucleus grow towards division.
        self.cycle = random.uniform(0, 1, self.cells)
        self.radius = (7.5 + 1.8 * self.cycle) * np.exp(0.08 * self.trait("nucleus_area"))
        self.from_nucleus = self.nucleus_distance()
        self.nucleus = np.clip(0.5 - self.from_nucleus / 1.2, 0, 1)
        self.nucleoli = self.nucleolus_cover()

    def trait(self, name: str) -> np.ndarray:
        """One trait of all cells in units."""
        return self.traits[:, TRAITS.index(name)]

    def pixel(self, values: np.ndarray) -> np.ndarray:
        """Spread one number per cell to its pixels."""
        return values.astype(np.float32)[self.of]

    def nucleus_distance(self) -> np.ndarray:
        """Distance in um from the nuclear envelope, negative inside."""
        aspect = np.maximum(1.32 * np.exp(0.1 * self.trait("nucleus_elongation")), 1.0)
        stretch = self.pixel(np.sqrt(aspect))
        along, across = self.u / stretch, self.v * stretch
        distance = np.sqrt(along * along + across * across) + 1e-3
        # cos and sin of three times the polar angle, without a call of arctan2.
        along, across = along / distance, across / distance
        cosine = along * (along * along - 3 * across * across)
        sine = across * (3 * along * along - across * across)
        turn = self.random.uniform(0, 2 * np.pi, self.cells)
        depth = np.minimum(0.05 * np.exp(0.4 * self.trait("nucleus_lobes")), 0.3)
        lobes = self.pixel(depth * np.cos(turn)) * cosine + self.pixel(depth * np.sin(turn)) * sine
        return distance - self.pixel(self.radius) * (1 + lobes)

    def thickness(self) -> np.ndarray:
        """Height of the cell: a dome over the nucleus on a thin skirt, zero at the free edge."""
        brightness = np.exp(self.random.normal(0, 0.25, self.cells))
        skirt = np.clip((1 - self.reach) * 4, 0, 1)
        groove = np.clip((self.rival - self.reach) * 4, 0, 1)
        dome = np.exp(-((np.maximum(self.from_nucleus, 0) / 10.0) ** 2))
        return self.pixel(brightness) * skirt * (0.8 + 0.2 * groove) * (0.45 + 0.55 * dome)

    def dna(self) -> np.ndarray:
        """Chromatin with fine or coarse texture; nucleoli are dark in it."""
        contrast = np.minimum(0.16 * np.exp(0.3 * self.trait("chromatin_contrast")), 0.6)
        coarse = self.pixel(1 / (1 + np.exp(-0.9 * self.trait("chromatin_coarseness"))))
        texture = coarse * self.textures[2.4] + (1 - coarse) * self.textures[0.9]
        content = (0.8 + 0.4 * self.cycle) * np.exp(self.random.normal(0, 0.15, self.cells))
        chromatin = np.maximum(1 + self.pixel(contrast) * texture, 0.1) * (1 - 0.3 * self.nucleoli)
        dome = 0.75 + 0.25 * np.clip(-self.from_nucleus / 5, 0, 1)
        return self.nucleus * self.pixel(content) * dome * chromatin

    def nucleolus_cover(self) -> np.ndarray:
        """Round bodies inside nuclei, 0 to 1."""
        mean = 2.6 * np.exp(0.28 * self.trait("nucleolus_count"))
        count = np.clip(np.round(mean + self.random.uniform(-0.5, 0.5, self.cells)), 1, NUCLEOLI)
        size = 1.7 * np.exp(0.17 * self.trait("nucleolus_size"))
        near = np.flatnonzero(self.from_nucleus < 0)
        of, u, v = self.of[near], self.u[near], self.v[near]
        spots = np.zeros(len(near), dtype=np.float32)
        for slot in range(NUCLEOLI):
            turn = self.random.uniform(0, 2 * np.pi, self.cells)
            away = 0.65 * self.radius * np.sqrt(self.random.uniform(0.02, 1, self.cells))
            radius = size * self.random.uniform(0.75, 1.25, self.cells) * (count > slot) + 1e-3
            du = u - (away * np.cos(turn)).astype(np.float32)[of]
            dv = v - (away * np.sin(turn)).astype(np.float32)[of]
            beyond = np.sqrt(du * du + dv * dv) - radius.astype(np.float32)[of]
            spots = np.maximum(spots, np.clip(0.5 - beyond / 1.2, 0, 1) * (count > slot)[of])
        whole = np.zeros_like(self.nucleus)
        whole[near] = spots
        return whole

    def falloff(self, spread_um: np.ndarray) -> np.ndarray:
        """1 at the nuclear envelope and inside, falling exponentially over `spread_um` outside."""
        return np.exp(-np.maximum(self.from_nucleus, 0) / self.pixel(spread_um))

    def er(self) -> np.ndarray:
        """Endoplasmic reticulum: envelope, perinuclear sheets, grainy towards the edge."""
        spread = 8.0 * np.exp(0.22 * self.trait("er_spread"))
        contrast = np.minimum(0.2 * np.exp(0.33 * self.trait("er_contrast")), 0.7)
        texture = 0.6 * (self.textures[1.4] + self.textures[2.4])
        grain = np.maximum(1 + self.pixel(contrast) * texture, 0.05)
        envelope = 0.3 * np.exp(-((self.from_nucleus / 1.2) ** 2))
        return (0.2 + 0.9 * self.falloff(spread)) * grain * (1 - 0.35 * self.nucleus) + envelope

    def rna(self) -> np.ndarray:
        """RNA: nucleoli, a pale nucleus and a smooth cytoplasm."""
        level = self.pixel(np.exp(0.22 * self.trait("rna_cytoplasm")))
        cytoplasm = 0.2 + 0.75 * self.falloff(np.full(self.cells, 8.5))
        cytoplasm = cytoplasm * (1 + 0.1 * self.textures[2.4])
        return level * cytoplasm * (1 - self.nucleus) + self.nucleus * (0.6 + 0.95 * self.nucleoli)

    def agp(self) -> np.ndarray:
        """Actin fibres along the cell, bright borders, and the Golgi beside the nucleus."""
        spacing = self.pixel(4.4 * np.exp(0.16 * self.trait("actin_spacing")))
        amount = self.pixel(0.8 * np.exp(0.38 * self.trait("actin_fibres")))
        phase = self.pixel(self.random.uniform(0, 2 * np.pi, self.cells))
        wave = 2 * np.pi * (self.v + 2.5 * self.bends[0]) / spacing + phase
        # A second, slower wave makes some fibres strong and others faint.
        strength = 0.6 + 0.4 * np.cos(0.38 * wave + 2 * self.bends[1])
        stripes = strength * (0.5 + 0.5 * np.cos(wave)) ** 2
        patches = np.clip(0.6 + 0.8 * self.bends[1], 0.1, 2)
        fibres = amount * stripes * patches * (1 - 0.6 * self.nucleus)
        edge = np.minimum((self.rival - self.reach) / 2, (1 - self.reach) / 1.5)
        brightness = 0.4 * np.exp(0.38 * self.trait("cell_border"))
        border = self.pixel(brightness) * np.exp(-((edge / 0.1) ** 2))
        size = 3.4 * np.exp(0.18 * self.trait("golgi_size"))
        turn = self.random.uniform(0, 2 * np.pi, self.cells)
        away = self.radius + 2.0
        du = self.u - self.pixel(away * np.cos(turn))
        dv = self.v - self.pixel(away * np.sin(turn))
        golgi = 0.9 * np.exp(-(du * du + dv * dv) / (2 * self.pixel(size) ** 2))
        golgi = golgi * np.maximum(0.7 + 0.6 * self.textures[1.4], 0) * (1 - 0.5 * self.nucleus)
        mesh = 0.08 * self.textures[0.9] + 0.08 * self.textures[4.0]
        return np.maximum(0.38 + mesh, 0) + fibres + border + golgi

    def mito(self) -> np.ndarray:
        """Mitochondria: a network of curved threads, or fragments, around the nucleus."""
        spread = 9.0 * np.exp(0.24 * self.trait("mito_spread"))
        broken = self.pixel(1 / (1 + np.exp(-0.9 * self.trait("mito_fragments"))))
        threads = 1.9 * np.exp(-((self.textures[2.4] / 0.5) ** 2))
        fragments = 2.6 * np.clip(self.textures[1.4] - 0.4, 0, 2)
        texture = 0.4 + 0.6 * ((1 - broken) * threads + broken * fragments)
        return (0.1 + self.falloff(spread)) * texture * (1 - 0.6 * self.nucleus)
