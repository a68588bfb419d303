"""All channels of a crop as one colour picture."""

from collections.abc import Sequence

import numpy as np

# Light of each channel; chosen apart in hue and in lightness.
LIGHT = {
    "DNA": (0.15, 0.35, 1.0),
    "ER": (0.0, 0.75, 0.55),
    "RNA": (0.65, 0.85, 0.1),
    "AGP": (1.0, 0.55, 0.0),
    "Mito": (0.9, 0.1, 0.45),
}
OTHER = (0.6, 0.6, 0.6)
DARKEST, BRIGHTEST = 5.0, 99.7  # percentiles of a channel that become black and white
# Where cells touch, all channels are moderately bright nearly everywhere and would add up to white.
CONTRAST = 1.5  # exponent of the grey values
EXPOSED = 99.0  # percentile of the added lights that is as bright as can be


def stretched(crops: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Stretch each channel to 0..1 within each group, as gains differ between microscopes.

    Parameters
    ----------
    crops
        Grey values, shape (N, C, H, W).
    groups
        What each crop is stretched with, for example its source, shape (N,).
    """
    pixels = crops.astype(np.float32)
    for group in np.unique(groups):
        mine = groups == group
        low, high = np.percentile(pixels[mine], [DARKEST, BRIGHTEST], axis=(0, 2, 3), keepdims=True)
        pixels[mine] = np.clip((pixels[mine] - low) / np.maximum(high - low, 1), 0, 1)
    return pixels


def composites(pixels: np.ndarray, channels: Sequence[str], groups: np.ndarray) -> np.ndarray:
    """Add the lights of all channels, each group as bright as its crops allow.

    Parameters
    ----------
    pixels
        What `stretched` gives, shape (N, C, H, W).
    channels
        Names of the channels.
    groups
        As for `stretched`.

    Returns
    -------
    numpy.ndarray
        Shape (N, H, W, 3), 0..1.
    """
    light = np.array([LIGHT.get(channel, OTHER) for channel in channels], np.float32)
    added = np.einsum("nchw,ck->nhwk", pixels**CONTRAST, light)
    for group in np.unique(groups):
        mine = groups == group
        added[mine] /= max(np.percentile(added[mine].max(axis=-1), EXPOSED), 1e-6)
    return np.clip(added, 0, 1)
