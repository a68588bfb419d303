"""Crop places: centre, grid, nuclei of our own segmentation."""

import numpy as np
from coda.crops.locations import (
    cell_corners,
    centre_corner,
    grid_corners,
    segment_nuclei,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter


def test_centre_is_the_middle():
    assert centre_corner((1080, 1080), 448) == [(316, 316)]
    assert centre_corner((998, 1280), 448) == [(275, 416)]
    assert centre_corner((448, 448), 448) == [(0, 0)]


@given(st.integers(1, 60), st.integers(0, 200), st.integers(0, 200))
def test_grid_covers_every_pixel_with_the_fewest_crops(size, more_height, more_width):
    shape = size + more_height, size + more_width
    covered = np.zeros(shape, bool)
    corners = grid_corners(shape, size)
    for top, left in corners:
        assert 0 <= top <= shape[0] - size and 0 <= left <= shape[1] - size
        covered[top : top + size, left : left + size] = True
    assert covered.all()
    assert len(corners) == -(-shape[0] // size) * -(-shape[1] // size)


def test_grid_is_deepprofilers_on_square_images():
    from deepprofiler.imaging.boxes import get_full_image_locations

    config = {"images": {"width": 1080, "height": 1080}, "locations": {"view_size": 448}}
    theirs = get_full_image_locations("", {"dataset": config}, None, None).to_numpy()
    ours = np.array(grid_corners((1080, 1080), 448)) + 448 / 2
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))


def test_cells_are_cut_at_exact_pixels_and_borders_left_out():
    centres = np.array([[50, 60], [15.4, 60], [16, 60], [84, 84], [85, 60]])
    corners, kept = cell_corners(centres, 1.0, (100, 100), 32)
    assert corners == [(34, 44), (0, 44), (68, 68)]
    assert kept.tolist() == [True, False, True, True, False]
    corners, _ = cell_corners(np.array([[50, 60]]), 0.5, (50, 50), 32)
    assert corners == [(25 - 16, 30 - 16)] and len(cell_corners([], 1.0, (9, 9), 4)[1]) == 0


def test_the_shift_of_deepprofilers_crop_is_as_documented():
    """crop_and_resize written out after TensorFlow's description, against the documented shift."""
    side, size, start = 1080, 96, 700.0
    first, last = start / side * (side - 1), (start + size) / side * (side - 1)
    samples = first + np.arange(size) * (last - first) / (size - 1)
    steps = np.arange(size)
    documented = steps * (side - size) / (side * (size - 1)) - start / side
    np.testing.assert_allclose(samples - (start + steps), documented, atol=1e-9)


def blobs(rng, shape, places, radius=8.0):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for y, x in places:
        image[np.hypot(rows - y, columns - x) < radius] = 4000.0
    return (rng.poisson(gaussian_filter(image, 1.5) + 300)).astype(np.uint16)


def test_segmentation_finds_drawn_nuclei_and_parts_touching_ones():
    rng = np.random.default_rng(0)
    places = [(30, 30), (30, 100), (80, 60), (80, 77), (140, 150), (170, 40)]
    found = segment_nuclei(blobs(rng, (200, 200), places))
    assert len(found) == len(places)
    distance = np.hypot(*(found[:, None] - np.array(sorted(places))[None]).transpose(2, 0, 1))
    assert (distance.min(axis=1) < 1.5).all() and sorted(distance.argmin(axis=1)) == list(range(6))


def test_segmentation_finds_nothing_in_noise():
    noise = np.random.default_rng(1).poisson(500, (200, 200)).astype(np.uint16)
    assert segment_nuclei(noise).shape == (0, 2)
