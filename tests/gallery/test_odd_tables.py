"""Tables that mix the oddities of spreadsheets, shares and microscopes, against a plain account of what was written."""

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import MISSING
from coda.gallery.labels import PLACEHOLDERS
from coda.gallery.open import open_gallery
from coda.gallery.shared_images import check_plates
from coda.gallery.site_index import COMPOUND_COLUMNS, index_plate
from hypothesis import given
from hypothesis import strategies as st

CHANNELS = ["DNA", "ER"]
COLUMNS = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "URL_OrigDNA", "URL_OrigER"]
COMPOUNDS = pd.DataFrame({"Metadata_JCP2022": ["JCP2022_000001"]}).reindex(
    columns=["Metadata_JCP2022", *COMPOUND_COLUMNS], fill_value="x"
)
TIMES = ["2021-05-02T09_00_00-Measurement1", "2021-05-02T09_00_00-Measurement 10"]


@st.composite
def plates_and_rows(draw):
    """Ids of plates, what is right for each site, the compound of each well, and rows of a table."""
    plates = draw(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True))
    spelt = draw(st.sampled_from([str, "{:04d}".format, "{}.0".format, " {:04d}  ".format]))
    right, layout, rows = {}, {}, []
    for plate in (f"{number:04d}" for number in plates):
        for well in draw(
            st.lists(st.sampled_from(["A01", "B12", "AF48"]), min_size=1, max_size=3, unique=True)
        ):
            known = ["JCP2022_000001", *PLACEHOLDERS, draw(st.sampled_from(MISSING))]
            layout[plate, well] = draw(st.sampled_from(known))
            for site in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)):
                measured = draw(st.sampled_from([TIMES[:1], TIMES, TIMES[::-1]]))
                lacks = draw(st.sampled_from([None, None, None, *CHANNELS]))
                for time in draw(st.sampled_from([measured, measured * 2])):
                    keys = [
                        f"lab/images/{plate}__{time}/{well}_{site}_{name}.tif" for name in CHANNELS
                    ]
                    right[plate, well, site] = [
                        None if lacks else key.replace(time, max(measured, key=len)) for key in keys
                    ]
                    gap = draw(st.sampled_from(MISSING))
                    cells = [
                        gap if name == lacks else key
                        for name, key in zip(CHANNELS, keys, strict=True)
                    ]
                    name = draw(st.sampled_from([well, well.lower(), f" {well}"]))
                    rows.append([spelt(int(plate)), name, str(site), *cells])
    return right, layout, draw(st.permutations(rows))


@given(
    written=plates_and_rows(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    separator=st.sampled_from([",", ";"]),
    quote=st.sampled_from(["", '"']),
    end=st.sampled_from(["\n", "\r\n"]),
    more=st.sampled_from(["", "more"]),
)
def test_each_plate_gets_its_own_images_and_none_of_others(
    written, encoding, separator, quote, end, more
):
    right, layout, rows = written
    behind = separator if more else ""
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) + behind for row in rows]
    text = end.join([separator.join(COLUMNS), *lines, separator * (4 + bool(more)), ""])
    wells = pd.DataFrame(
        [
            ("lab", plate, well, None if jcp in MISSING else jcp)
            for (plate, well), jcp in layout.items()
        ],
        columns=["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_JCP2022"],
    )
    indexes = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.csv").write_bytes(text.encode(encoding))
        for plate in dict.fromkeys(plate for plate, *_ in right):
            where = (open_gallery(folder), "lab", "b", plate, wells, COMPOUNDS, CHANNELS, "all.csv")
            expected = {
                (well, site): tuple(keys)
                for (owner, well, site), keys in right.items()
                if owner == plate and None not in keys
            }
            if not expected:
                with pytest.raises(UserError, match="no site with an image in every channel"):
                    index_plate(*where)
                continue
            index = index_plate(*where)
            found = index[
                ["Metadata_Well", "Metadata_Site", "Key_DNA", "Key_ER", "Metadata_JCP2022"]
            ]
            for well, site, dna, er, jcp in found.itertuples(index=False):
                assert (dna, er) == expected.pop((well, site))
                known = layout[plate, well] == "JCP2022_000001"
                assert jcp == "JCP2022_000001" if known else pd.isna(jcp)
            assert not expected
            indexes.append(index)
    check_plates(indexes, [folder] * len(indexes))
