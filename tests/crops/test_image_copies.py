"""Images that are copies are found, whatever their files are called; others are not."""

from collections import defaultdict

import numpy as np
import pandas as pd
from coda.columns import SITE_KEYS
from coda.crops.image_copies import CHANNELS, PLATES, SITES, find_copies, pixel_checksum
from hypothesis import given
from hypothesis import strategies as st


def sites_of(pixels):
    """Sites of two channels, on plates of two wells; `pixels` gives the checksum of each image."""
    rows = []
    for number, (dna, er) in enumerate(pixels):
        place = ("lab", f"P{number // 4}", f"A{number // 2 % 2 + 1:02d}", number % 2)
        rows.append((*place, dna, er))
    return pd.DataFrame(rows, columns=[*SITE_KEYS, "Checksum_DNA", "Checksum_ER"])


def test_copies_are_named_with_what_they_are_copies_of():
    pixels = [("a", "b"), ("a", "c"), ("d", "d"), ("e", "f"), ("b", "g"), (None, None)]
    table = find_copies(sites_of(pixels))
    assert table["kind"].tolist() == [SITES, CHANNELS, PLATES]
    assert table["message"].tolist() == [
        "DNA has the same pixels as lab P0 A01 site 0 DNA",
        "ER has the same pixels as lab P0 A02 site 0 DNA",
        "DNA has the same pixels as lab P0 A01 site 0 ER",
    ]
    assert table[SITE_KEYS].to_numpy().tolist() == [
        ["lab", "P0", "A01", 1],
        ["lab", "P0", "A02", 0],
        ["lab", "P1", "A01", 0],
    ]


IMAGE = st.one_of(st.none(), st.sampled_from([f"{number:x}" for number in range(24)]))


@given(st.lists(st.tuples(IMAGE, IMAGE), min_size=1, max_size=12))
def test_every_image_but_the_first_of_its_kind_is_a_copy(pixels):
    """Against counting; nothing is said of lost images."""
    table = find_copies(sites_of(pixels))
    seen = defaultdict(int)
    for pair in pixels:
        for image in pair:
            seen[image] += image is not None
    assert len(table) == sum(max(0, count - 1) for count in seen.values())
    lost = sites_of(pixels).assign(Checksum_DNA=None, Checksum_ER=None)
    assert find_copies(lost).empty and find_copies(lost.drop(columns="Checksum_ER")).empty


@given(st.integers(0, 2**32 - 1), st.integers(0, 59), st.integers(1, 100))
def test_a_checksum_is_that_of_pixels_and_size(seed, place, step):
    image = np.random.default_rng(seed).integers(0, 2**16, (6, 10), dtype=np.uint16)
    other = image.copy()
    other.flat[place] += np.uint16(step)
    assert pixel_checksum(image) == pixel_checksum(image.copy(order="F")) != pixel_checksum(other)
    assert pixel_checksum(image) != pixel_checksum(image.reshape(10, 6))
