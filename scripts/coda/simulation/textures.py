"""Random textures for drawn cells."""

import numpy as np
from scipy import fft


class Noise:
    """Smooth random textures of unit variance, by filtering white noise in Fourier space."""

    def __init__(self, shape: tuple[int, int], pixel_um: float, random: np.random.Generator):
        self.shape, self.random = shape, random
        down = fft.fftfreq(shape[0])[:, None] ** 2
        right = fft.rfftfreq(shape[1])[None, :] ** 2
        self.frequency2 = ((down + right) / pixel_um**2).astype(np.float32)
        self.pixel_um = pixel_um

    def smooth(self, length_um: float, count: int = 1) -> np.ndarray:
        """Textures of correlation length `length_um` (sd of the kernel), float32 ``(count, h, w)``.

        Detail finer than a pixel fades away as it would in a real camera.
        """
        white = self.random.standard_normal((count, *self.shape), dtype=np.float32)
        kernel = np.exp(-2 * np.pi**2 * length_um**2 * self.frequency2)
        # White noise through a Gaussian kernel of sd s pixels has sd 1 / (2 sqrt(pi) s).
        kernel *= 2 * np.sqrt(np.pi) * length_um / self.pixel_um
        return fft.irfft2(fft.rfft2(white) * kernel, s=self.shape)
