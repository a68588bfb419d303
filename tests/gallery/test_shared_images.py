"""No image belongs to two plates of a run, however the tables came to say so."""

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.shared_images import check_plates
from hypothesis import given
from hypothesis import strategies as st


def index_of(plate, keys, source="lab"):
    """Two channels a site; `keys` are those of the first channel."""
    return pd.DataFrame(
        {
            "Metadata_Source": source,
            "Metadata_Plate": plate,
            "Metadata_Well": [f"A{number + 1:02d}" for number in range(len(keys))],
            "Metadata_Site": 1,
            "Key_DNA": [f"{key}_DNA.tif" for key in keys],
            "Key_ER": [f"{key}_ER.tif" for key in keys],
        }
    )


def test_plates_are_counted():
    indexes = [index_of("P1", ["a", "b"]), index_of("P2", ["c"]), index_of("P1", ["d"], "other")]
    table = check_plates(indexes, ["root"] * 3)
    assert table.to_numpy().tolist() == [
        ["lab", "P1", 2, 2, 4],
        ["lab", "P2", 1, 1, 2],
        ["other", "P1", 1, 1, 2],
    ]


def test_both_plates_and_the_way_out_are_named():
    indexes = [index_of("0041", ["a"]), index_of("0042", ["b", "c"]), index_of("0043", ["d", "c"])]
    with pytest.raises(
        UserError,
        match=r"lab 0042 and lab 0043 share 2 images \(the first: c_DNA\.tif\).*exclude_plates",
    ):
        check_plates(indexes, ["root"] * 3)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.lists(st.integers(0, 30), min_size=1, max_size=5, unique=True),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_sharing_is_found_within_a_root_and_nowhere_else(plates):
    """Against sets: the same key below another root is another image."""
    roots = [root for root, _ in plates]
    indexes = [index_of(f"P{n}", [*map(str, keys)]) for n, (_, keys) in enumerate(plates)]
    places = [(root, key) for root, keys in plates for key in keys]
    if len(set(places)) < len(places):
        with pytest.raises(UserError, match="share"):
            check_plates(indexes, roots)
    else:
        assert check_plates(indexes, roots)["sites"].sum() == len(places)
