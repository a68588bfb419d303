"""All channels of crops in one picture, each in a light of its own."""

from collections.abc import Sequence

import numpy as np

# Light of each channel in the composite; chosen apart in hue and in lightness.
LIGHT = {
    "DNA": (0.15, 0.35, 1.0),
    "ER": (0.0, 0.75, 0.55),
    "RNA": (0.65, 0.85, 0.1),
    "AGP": (1.0, 0.55, 0.0),
    "Mito": (0.9, 0.1, 0.45),
}
EXPOSURE = 0.6  # of the sum of all channels, which overlap in most of the cell
DARKEST, BRIGHTEST = 1.0, 99.7  # percentiles that become black and white


def stretched(crops: np.ndarray) -> np.ndarray:
    """Stretch crops (N, C, H, W) to 0 to 1, each channel by percentiles of all of them, in float32."""
    pixels = crops.astype(np.float32)
    low, high = np.percentile(pixels, [DARKEST, BRIGHTEST], axis=(0, 2, 3), keepdims=True)
    return np.clip((pixels - low) / np.maximum(high - low, 1), 0, 1).astype(np.float32)


def composites(pixels: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Add up stretched channels (N, C, H, W) to colours (N, H, W, 3), from 0 to 1."""
    light = np.array([LIGHT.get(channel, (0.6, 0.6, 0.6)) for channel in channels], np.float32)
    return np.clip(np.einsum("nchw,ck->nhwk", pixels, light) * EXPOSURE, 0, 1)
