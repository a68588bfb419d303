"""Where to cut: the centre, a grid, or the nuclei of single cells."""

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from coda.crops.quality import DISTINCT

UM_PER_PIXEL = 0.65  # where it is unknown; microscopes of JUMP have 0.598 to 0.703
SMOOTHING = 1.8  # um; smooths chromatin and noise away, keeps neighbours apart
APART = 3.0  # um between the middles of two nuclei, at least
SMALLEST_NUCLEUS = 40.0  # square um, 7 um across


def centre_corner(shape: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Top and left pixel of the central crop; odd margins as in torchvision's CenterCrop."""
    return [tuple(round((side - size) / 2) for side in shape)]


def grid_corners(shape: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Top and left pixels of a grid that covers the image, row by row.

    As in DeepProfiler's ``full_image`` mode, as few crops as cover a side stand at equal distances
    and overlap where the side is no multiple of the size.
    """
    tops, lefts = (
        np.linspace(0, side - size, -(-side // size)).round().astype(int).tolist() for side in shape
    )
    return [(top, left) for top in tops for left in lefts]


def cell_corners(
    centres: np.ndarray, factor: float, shape: tuple[int, int], size: int
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Top and left pixels of crops around nuclei; crops that cross the border are left out.

    Crops are exact cuts of pixels: the crop's pixel ``size / 2`` is the pixel of the nucleus's
    centre. DeepProfiler hands boxes divided by the image's side to TensorFlow's
    ``crop_and_resize``, which takes 0 to 1 as the first to the last pixel's centre: with box start
    ``y``, side ``H`` and crop size ``s`` its sample ``i`` lies at
    ``(y + i s / (s - 1)) (H - 1) / H`` instead of ``y + i``. Its crops are thus interpolated, and
    shifted by ``i (H - s) / (H (s - 1)) - y / H``, which depends on the place and reaches
    ``(H - s) / H``, just under a pixel, at the border. It also pads crops that cross the border
    with zeros.

    Parameters
    ----------
    centres
        Centres of nuclei (n, 2), y and x in pixels of the raw image.
    factor
        Size of the resized image over that of the raw one.
    shape
        Height and width of the resized image.
    size
        Height and width of a crop.

    Returns
    -------
    corners : list of tuple of int
        Top and left pixel of each crop, in the resized image.
    kept : numpy.ndarray
        Which of `centres` have one, bool (n,).
    """
    centres = np.asarray(centres, dtype=np.float64).reshape(-1, 2)
    corners = np.floor((centres + 0.5) * factor).astype(int) - size // 2
    kept = ((corners >= 0) & (corners + size <= np.array(shape))).all(axis=1)
    return [tuple(corner) for corner in corners[kept].tolist()], kept


def segment_nuclei(image: np.ndarray, um_per_pixel: float | None = None) -> np.ndarray:
    """Find nuclei in a raw DNA image: Otsu's threshold, then a watershed on the distance map.

    Parameters
    ----------
    image
        Grey values (H, W).
    um_per_pixel
        Pixel size; `UM_PER_PIXEL` where unknown.

    Returns
    -------
    numpy.ndarray
        Centres (n, 2), y and x in pixels, from top to bottom.
    """
    um = um_per_pixel or UM_PER_PIXEL
    smooth = gaussian(image.astype(np.float32), SMOOTHING / um, preserve_range=True)
    mask = smooth > threshold_otsu(smooth)
    # Of an image of noise the threshold makes two halves that hardly differ.
    if (
        not mask.any()
        or smooth[mask].mean() - smooth[~mask].mean() < DISTINCT * smooth[~mask].std()
    ):
        return np.empty((0, 2))
    distance = gaussian(ndimage.distance_transform_edt(mask), 1.0, preserve_range=True)
    peaks = peak_local_max(
        distance, min_distance=max(1, round(APART / um)), labels=ndimage.label(mask)[0]
    )
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, seeds, mask=mask)
    sizes = np.bincount(labels.ravel(), minlength=len(peaks) + 1)
    large = np.flatnonzero(sizes[1:] * um**2 >= SMALLEST_NUCLEUS) + 1
    centres = np.array(ndimage.center_of_mass(mask, labels, large)).reshape(-1, 2)
    return centres[np.lexsort(centres.T[::-1])]
