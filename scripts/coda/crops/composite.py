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
DARKEST, BRIGHTEST = 5.0, 99.7  # percentiles of a channel that become black and white
# Where cells touch, all channels are moderately bright nearly everywhere and would add up to white.
CONTRAST = 1.5  # exponent of the grey values
EXPOSED = 99.0  # percentile of the added lights that is as bright as can be


def stretched(crops: np.ndarray) -> np.ndarray:
    """Stretch crops (N, C, H, W) to 0 to 1, each channel by percentiles of all of them, in float32."""
    pixels = crops.astype(np.float32)
    low, high = np.percentile(pixels, [DARKEST, BRIGHTEST], axis=(0, 2, 3), keepdims=True)
    return np.clip((pixels - low) / np.maximum(high - low, 1), 0, 1).astype(np.float32)


def composites(pixels: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Add up stretched channels (N, C, H, W) to colours (N, H, W, 3), from 0 to 1, as bright as all of them allow."""
    light = np.array([LIGHT.get(channel, (0.6, 0.6, 0.6)) for channel in channels], np.float32)
    added = np.einsum("nchw,ck->nhwk", pixels**CONTRAST, light)
    return np.clip(added / max(np.percentile(added.max(axis=-1), EXPOSED), 1e-6), 0, 1)
