"""Microscopes: how each source turns the light of a field into 16-bit images.

The first columns of `MICROSCOPES` are the published facts; the others are invented so that
confocal instruments are crisp, widefield ones hazy, and filter sets leak differently. All of them
stand for the instrument: nothing here knows the compound.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import fft

from coda.simulation.cells import CHANNELS
from coda.simulation.world import generator

STAIN_SD, BACKGROUND_SD = 0.35, 0.6  # of the logarithm, per field and channel
BACKGROUND = 0.04  # of the light in the middle of a cell
HAZE_UM = 9.0  # sd of the out-of-focus light
BATCH_SD, PLATE_SD = 0.06, 0.02  # relative change of the imaging
COUNTS = {"DNA": 3000, "ER": 9000, "RNA": 10000, "AGP": 6000, "Mito": 8000}
READ_NOISE = 12.0  # counts
# (into, from): share of the crosstalk of the filter set.
LEAKS = {
    "A": {("RNA", "ER"): 1.0, ("ER", "RNA"): 0.4, ("AGP", "RNA"): 0.4},
    "B": {("ER", "RNA"): 0.8, ("RNA", "ER"): 1.0, ("AGP", "RNA"): 0.6, ("AGP", "Mito"): 0.3},
    "C": {("RNA", "ER"): 1.0, ("AGP", "RNA"): 0.5},
    "D": {("RNA", "ER"): 0.7, ("RNA", "AGP"): 1.0, ("Mito", "AGP"): 0.4},
    "E": {
        ("RNA", "AGP"): 0.8,
        ("AGP", "RNA"): 1.0,
        ("RNA", "ER"): 0.9,
        ("Mito", "AGP"): 0.5,
        ("ER", "DNA"): 0.3,
    },
    "F": {("ER", "RNA"): 1.0, ("AGP", "RNA"): 0.8, ("Mito", "AGP"): 0.4},
    "H": {("RNA", "ER"): 0.8, ("ER", "RNA"): 0.6, ("AGP", "Mito"): 0.5},
}


@dataclass(frozen=True)
class Microscope:
    """An instrument and its settings.

    Attributes
    ----------
    name, mode, light, aperture, filters, pixel_um
        Published facts: model, confocal or widefield, laser or LED, numerical aperture, filter
        set, um per pixel.
    blur
        Sd of the point spread function in pixels of the image.
    haze
        Share of the light that comes from out of focus.
    gamma
        Exponent of the detector's response.
    photons
        Photons per pixel in the middle of a cell.
    crosstalk
        Strongest leak from one channel into another.
    density
        Cells seeded, relative to the ordinary.
    """

    name: str
    mode: str
    light: str
    aperture: float
    filters: str
    pixel_um: float
    blur: float
    haze: float
    gamma: float
    photons: float
    crosstalk: float
    density: float


MICROSCOPES = {
    "source_2": Microscope(
        "CV8000", "Confocal", "Laser", 1.0, "A", 0.65, 0.65, 0.20, 0.97, 260, 0.06, 1.0
    ),
    "source_3": Microscope(
        "Opera Phenix", "Widefield", "Laser", 1.0, "B", 0.597976, 0.95, 0.55, 0.85, 140, 0.25, 1.1
    ),
    "source_4": Microscope(
        "Opera Phenix", "Widefield", "Laser", 1.0, "B", 0.597976, 0.90, 0.50, 0.90, 160, 0.20, 1.0
    ),
    "source_5": Microscope(
        "CV8000", "Confocal", "Laser", 0.75, "C", 0.64974, 0.65, 0.15, 1.00, 300, 0.00, 1.0
    ),
    "source_6": Microscope(
        "CV8000", "Confocal", "Laser", 0.75, "A", 0.646187, 0.72, 0.20, 1.00, 240, 0.08, 1.0
    ),
    "source_7": Microscope(
        "CV7000", "Confocal", "Laser", 0.75, "D", 0.65, 0.80, 0.25, 0.95, 170, 0.15, 0.9
    ),
    "source_8": Microscope(
        "ImageXpress Micro Confocal",
        "Confocal",
        "LED",
        0.75,
        "E",
        0.7032,
        1.00,
        0.35,
        0.75,
        90,
        0.40,
        0.9,
    ),
    "source_9": Microscope(
        "Opera Phenix", "Widefield", "Laser", 0.8, "H", 0.597976, 1.00, 0.50, 0.90, 150, 0.15, 1.0
    ),
    "source_10": Microscope(
        "CV8000", "Confocal", "Laser", 0.75, "A", 0.6516944, 0.72, 0.20, 1.00, 220, 0.08, 1.05
    ),
    "source_11": Microscope(
        "Operetta", "Widefield", "LED", 1.0, "F", 0.597976, 0.90, 0.55, 0.85, 110, 0.30, 1.0
    ),
    "source_13": Microscope(
        "CV7000", "Confocal", "Laser", 0.75, "D", 0.65, 0.80, 0.25, 0.95, 180, 0.15, 0.9
    ),
}


# What labs can differ in, one by one: the settings of a microscope that make it up. The camera's gains, offsets and
# illumination go with intensity.
CAUSES = {
    "optics": ("aperture", "blur", "haze"),
    "noise": ("photons",),
    "bleed_through": ("filters", "crosstalk"),
    "intensity": ("gamma",),
    "density": ("density",),
    "pixel_size": ("pixel_um",),
}


@dataclass(frozen=True)
class Lab:
    """Whose imaging a source has, where it is not its own.

    Attributes
    ----------
    like : str
        The source whose microscope and camera it has.
    differs : tuple of (str, str)
        Causes of `CAUSES` in which it has those of another source, and which.
    cell_size : float
        Size of its cells in length, relative to the ordinary.
    """

    like: str
    differs: tuple[tuple[str, str], ...] = ()
    cell_size: float = 1.0

    @property
    def microscope(self) -> Microscope:
        """The microscope that results."""
        changed = {
            setting: getattr(MICROSCOPES[origin], setting)
            for cause, origin in self.differs
            for setting in CAUSES[cause]
        }
        return replace(MICROSCOPES[self.like], **changed)

    @property
    def camera(self) -> str:
        """The source whose gains, offsets and illumination it has."""
        return dict(self.differs).get("intensity", self.like)


@dataclass(frozen=True)
class Imaging:
    """A microscope on the day of a plate: its settings and, per channel, gain and offset in counts."""

    microscope: Microscope
    gain: np.ndarray
    offset: np.ndarray
    mixing: np.ndarray
    vignette: np.ndarray


@lru_cache(maxsize=8)
def imaging(source: str, batch: str, plate: str, seed: int, lab: Lab | None = None) -> Imaging:
    """Set up the microscope of a plate: a batch changes the source's settings by several per cent, a plate less."""
    lab = lab or Lab(source)
    own = generator(seed, "microscope", lab.camera)
    day, run = (
        generator(seed, "imaging batch", source, batch),
        generator(seed, "imaging plate", source, plate),
    )
    microscope = lab.microscope

    def drift(size: int | None = None) -> np.ndarray:
        return np.exp(day.normal(0, BATCH_SD, size) + run.normal(0, PLATE_SD, size))

    changed = {
        name: getattr(microscope, name) * float(drift())
        for name in ("blur", "haze", "photons", "crosstalk")
    }
    changed["gamma"] = microscope.gamma * float(drift()) ** 0.3
    count = len(CHANNELS)
    gain = (
        np.array([COUNTS[channel] for channel in CHANNELS])
        * np.exp(own.normal(0, 0.3, count))
        * drift(count)
    )
    offset = own.uniform(150, 500, count) * drift(count)
    mixing = np.eye(count)
    for (into, origin), share in LEAKS[microscope.filters].items():
        mixing[CHANNELS.index(into), CHANNELS.index(origin)] = share * changed["crosstalk"]
    # Columns: centre down, centre across, depth of the fall-off, tilt down, tilt across.
    vignette = own.uniform(
        [-0.15, -0.15, 0.12, -0.05, -0.05], [0.15, 0.15, 0.35, 0.05, 0.05], (count, 5)
    )
    vignette = vignette + day.normal(0, 0.02, (count, 5))
    return Imaging(replace(microscope, **changed), gain, offset, mixing, vignette)


def illumination(setup: Imaging, shape: tuple[int, int]) -> np.ndarray:
    """True illumination fields with mean one, float32 ``(5, height, width)``."""
    down = np.linspace(-0.5, 0.5, shape[0])[None, :, None]
    right = np.linspace(-0.5, 0.5, shape[1])[None, None, :]
    centre_y, centre_x, depth, tilt_y, tilt_x = setup.vignette.T[:, :, None, None]
    field = (
        1
        - 2 * depth * ((down - centre_y) ** 2 + (right - centre_x) ** 2)
        + tilt_y * down
        + tilt_x * right
    )
    return (field / field.mean(axis=(1, 2), keepdims=True)).astype(np.float32)


def margin_pixels(pixel_um: float) -> int:
    """Pixels to draw beyond each edge, so that out-of-focus light comes in from outside."""
    return int(np.ceil(1.2 * HAZE_UM / pixel_um))


def expose(
    light: np.ndarray, setup: Imaging, field: np.ndarray, pixel_um: float, random
) -> np.ndarray:
    """Take the pictures of a field.

    Parameters
    ----------
    light
        Drawn light, float32 ``(5, height + 2 margin, width + 2 margin)`` with `margin_pixels`.
    setup
        The microscope on the day.
    field
        Illumination, float32 ``(5, height, width)``.
    pixel_um
        Side of a pixel in um.
    random
        Generator of this site's stain, background and noise.

    Returns
    -------
    numpy.ndarray
        Images, uint16 ``(5, height, width)``.
    """
    microscope, count = setup.microscope, len(CHANNELS)
    stain = np.exp(random.normal(0, STAIN_SD, count))
    background = BACKGROUND * np.exp(random.normal(0, BACKGROUND_SD, count))
    seen = blur(light, microscope.blur, microscope.haze, HAZE_UM / pixel_um)
    margin = margin_pixels(pixel_um)
    seen = seen[:, margin : margin + field.shape[1], margin : margin + field.shape[2]]
    mixed = np.tensordot((setup.mixing * stain[None, :]).astype(np.float32), seen, axes=1)
    mixed = np.maximum(mixed, 0) + background.astype(np.float32)[:, None, None]
    mixed *= field
    # Shot noise: a normal variable with the variance of the Poisson one, ten times faster.
    noise = random.standard_normal(mixed.shape, dtype=np.float32)
    mixed += noise * np.sqrt(mixed / np.float32(microscope.photons))
    np.maximum(mixed, 0, out=mixed)
    if microscope.gamma != 1:
        np.power(mixed, np.float32(microscope.gamma), out=mixed)
    counts = (
        mixed * setup.gain.astype(np.float32)[:, None, None]
        + setup.offset.astype(np.float32)[:, None, None]
    )
    counts += READ_NOISE * random.standard_normal(mixed.shape, dtype=np.float32)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def blur(light: np.ndarray, sharp: float, haze: float, wide: float) -> np.ndarray:
    """Blur by a sharp Gaussian plus a share `haze` of a wide one; sd in pixels, light is kept."""
    shape = light.shape[1:]
    return fft.irfft2(fft.rfft2(light) * blur_transfer(shape, sharp, haze, wide), s=shape)


@lru_cache(maxsize=2)
def blur_transfer(shape: tuple[int, int], sharp: float, haze: float, wide: float) -> np.ndarray:
    """Transfer function of `blur`, float32; kept for the next field of the plate."""
    down = fft.fftfreq(shape[0])[:, None] ** 2
    right = fft.rfftfreq(shape[1])[None, :] ** 2
    frequency2 = 2 * np.pi**2 * (down + right)
    transfer = (1 - haze) * np.exp(-frequency2 * sharp**2) + haze * np.exp(-frequency2 * wide**2)
    return transfer.astype(np.float32)
