"""Crop places: centre, grid, nuclei of the gallery and of our own segmentation."""

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.locations import (
    cell_corners,
    centre_corner,
    grid_corners,
    parse_group,
    read_nuclei,
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


@pytest.mark.parametrize(
    ("folder", "plate", "expected"),
    [
        ("BR00121431-A02-1", "BR00121431", ("A02", 1)),
        ("CP-CC9-R1-29-B11-0", "CP-CC9-R1-29", ("B11", 0)),
        ("JCPQC016-P24", "JCPQC016", ("P24", None)),
        ("AF48", "GR00003381", ("AF48", None)),
        ("1053601756", "1053601756", (None, None)),
    ],
)
def test_analysis_folders_name_well_and_site(folder, plate, expected):
    assert parse_group(folder, plate) == expected


def test_nuclei_of_a_site_a_well_and_a_plate():
    nuclei = b"ImageNumber,ObjectNumber,Location_Center_X,Location_Center_Y\n10,1,5.5,7\n12,1,1,2\n"
    site = read_nuclei(nuclei, "P1-A02-1", "P1")
    assert site.to_dict("list") == {
        "Metadata_Well": ["A02", "A02"],
        "Metadata_Site": [1, 1],
        "Y": [7, 2],
        "X": [5.5, 1],
    }
    image = b"ImageNumber,Metadata_Plate,Metadata_Well,Metadata_Site\n10,P1,b3,4\n11,P1,B03,5\n12,P1,C04,1\n"
    for folder in ["P1-B03", "P1"]:
        plate = read_nuclei(nuclei, folder, "P1", image)
        assert plate["Metadata_Well"].tolist() == ["B03", "C04"]
        assert plate["Metadata_Site"].tolist() == [4, 1]


def test_bad_nuclei_are_named(tmp_path):
    nuclei = b"ImageNumber,Location_Center_X,Location_Center_Y\n10,5.5,7\n"
    with pytest.raises(UserError, match="P1-A02.*Image.csv"):
        read_nuclei(nuclei, "P1-A02", "P1")
    with pytest.raises(UserError, match="image numbers of 1 nuclei"):
        read_nuclei(nuclei, "P1", "P1", b"ImageNumber,Metadata_Well,Metadata_Site\n1,A01,1\n")
    with pytest.raises(UserError, match="Nuclei.csv of P1.*Location_Center_Y"):
        read_nuclei(b"ImageNumber,Location_Center_X\n1,2\n", "P1-A02-1", "P1")
    with pytest.raises(UserError, match="does not exist"):
        read_nuclei(tmp_path / "Nuclei.csv", "P1-A02-1", "P1")
    with pytest.raises(UserError, match="names neither"):
        read_nuclei(nuclei, "Experiment", "P1")
    path = tmp_path / "Nuclei.csv.gz"
    pd.DataFrame({"ImageNumber": [1], "Location_Center_X": [2], "Location_Center_Y": [3]}).to_csv(
        path
    )
    assert read_nuclei(path, "P1-A02-1", "P1")["Y"].tolist() == [3]
