"""Random textures for drawn cells."""

from functools import lru_cache

import numpy as np
from scipy import fft


class Noise:
    """Smooth random textures of unit variance, by filtering white noise in Fourier space."""

    def __init__(self, shape: tuple[int, int], pixel_um: float, random: np.random.Generator):
        self.shape, self.pixel_um, self.random = shape, pixel_um, random

    def smooth(self, length_um: float, count: int = 1) -> np.ndarray:
        """Textures of correlation length `length_um` (sd of the kernel), float32 ``(count, h, w)``.

        Detail finer than a pixel fades away as it would in a real camera.
        """
        white = self.random.standard_normal((count, *self.shape), dtype=np.float32)
        kernel = unit_gaussian(self.shape, self.pixel_um, length_um)
        return fft.irfft2(fft.rfft2(white) * kernel, s=self.shape)


@lru_cache(maxsize=16)
def unit_gaussian(shape: tuple[int, int], pixel_um: float, length_um: float) -> np.ndarray:
    """Transfer function of a Gaussian that leaves white noise with unit variance, float32; kept for the next field."""
    down = fft.fftfreq(shape[0])[:, None] ** 2
    right = fft.rfftfreq(shape[1])[None, :] ** 2
    frequency2 = ((down + right) / pixel_um**2).astype(np.float32)
    kernel = np.exp(-2 * np.pi**2 * length_um**2 * frequency2)
    # White noise through a Gaussian kernel of sd s pixels has sd 1 / (2 sqrt(pi) s).
    kernel *= 2 * np.sqrt(np.pi) * length_um / pixel_um
    return kernel
