"""From raw images to 8 bits: DeepProfiler's compression, for the pixels that a crop needs.

DeepProfiler's `Compress.process_image` divides by the illumination function, resizes, stretches
between the image's own percentiles 0.05 and 99.95 (the upper one capped by the plate's percentile
99.99) and rounds to 8 bits. Here the same runs in float32, the percentiles come from the tails
alone, and only the crops are stretched.
"""

from collections.abc import Sequence

import numpy as np
from skimage.transform import resize

TAIL = 0.0005


def compress(
    image: np.ndarray,
    function: np.ndarray | None,
    highest: float,
    shape: tuple[int, int],
    corners: Sequence[tuple[int, int]],
    size: int,
) -> np.ndarray:
    """Correct one channel, stretch it to 8 bits and cut its crops.

    Parameters
    ----------
    image
        Raw grey values (H, W), uint16.
    function
        Illumination function (H, W), float32; None corrects nothing.
    highest
        Upper limit of the stretch: the plate's percentile 99.99 of raw grey values.
    shape
        Height and width to resize to before stretching; (H, W) leaves the pixels as they are.
    corners
        Top and left pixel of each crop, in the resized image.
    size
        Height and width of a crop.

    Returns
    -------
    numpy.ndarray
        uint8 (n, size, size).
    """
    corrected = image.astype(np.float32)
    if function is not None:
        corrected /= function
    if shape != image.shape:
        corrected = resize(corrected, shape, mode="reflect", anti_aliasing=True)
    low, high = tail_percentiles(corrected)
    limits = (low, min(high, highest))
    crops = np.empty((len(corners), size, size), np.uint8)
    for crop, (top, left) in zip(crops, corners, strict=True):
        cut = corrected[top : top + size, left : left + size]
        crop[:] = stretch(cut, *limits)
    return crops


def stretch(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map `low` to `high` onto 0 to 255 and round, in the type of `image`.

    Equal to scikit-image's ``img_as_ubyte(rescale_intensity(image, in_range=(low, high)))``, which
    in float32 stops at values just above 1; also where the limits meet or cross.
    """
    scaled = np.clip(image, low, high)
    if low == high:
        low, high = 0.0, 1.0
    scaled -= low
    scaled *= 255 / (high - low)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def tail_percentiles(image: np.ndarray) -> tuple[float, float]:
    """Percentiles 0.05 and 99.95 with linear interpolation, equal to `numpy.percentile`.

    A sample gives two bounds that enclose somewhat more than the tails; only what lies beyond them
    is sorted. Where the sample misjudged a tail, all pixels are sorted instead.
    """
    pixels = image.ravel()
    place = TAIL * (pixels.size - 1)
    below = int(place)
    sample = np.sort(pixels[::97])
    margin = int(6 * TAIL * sample.size) + 3
    if margin >= sample.size:
        tails = pixels, pixels
    else:
        low, high = sample[margin], sample[-1 - margin]
        tails = pixels[pixels <= low], pixels[pixels >= high]
    low, high = (np.sort(tail if tail.size > below + 1 else pixels) for tail in tails)
    weight = place - below
    return (
        _between(float(low[below]), float(low[below + 1]), weight),
        _between(float(high[-1 - below]), float(high[-2 - below]), weight),
    )


def _between(start: float, end: float, weight: float) -> float:
    return start + (end - start) * weight
