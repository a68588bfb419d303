"""Warnings go with the table that they are about, through its file."""

import pandas as pd
import pytest
from coda.crops.illumination import estimate_illumination
from coda.errors import UserError
from coda.files import read_table, write_table
from coda.gallery.download import download_plate
from coda.gallery.input_warnings import keep_warnings, missing_sites, warnings_of
from coda.gallery.local import LocalGallery
from plates import make_plate


def test_warnings_survive_the_file_with_their_plate(tmp_path):
    index = pd.DataFrame(
        {"Metadata_Source": ["lab"] * 2, "Metadata_Plate": "0041", "Metadata_Site": [1, 2]}
    )
    write_table(keep_warnings(index, ["one", "two"]), tmp_path / "index.parquet")
    table = warnings_of(read_table(tmp_path / "index.parquet"))
    assert table["message"].tolist() == ["one", "two"] and set(table["kind"]) == {"tables"}
    assert table["Metadata_Plate"].tolist() == ["0041"] * 2 and table["Metadata_Well"].isna().all()
    assert index.attrs == {}


def test_a_table_without_warnings_or_plate_has_none(tmp_path):
    write_table(pd.DataFrame({"a": ["x"]}), tmp_path / "t.parquet")
    assert warnings_of(read_table(tmp_path / "t.parquet")).empty
    table = warnings_of(keep_warnings(pd.DataFrame({"a": ["x"]}), ["labels: odd"]))
    assert table["message"].tolist() == ["labels: odd"] and table["Metadata_Plate"].isna().all()


@pytest.mark.parametrize(
    ("missing", "lost", "allowed"), [(0, 1, True), (1, 1, True), (2, 1, False)]
)
def test_sites_missing_from_the_tables_count_among_those_lost_later(
    tmp_path, missing, lost, allowed
):
    """Of ten planned sites two may be lost, wherever that happens."""
    index = make_plate(tmp_path / "mirror", 10 - missing)
    for key in index["Key_DNA"][:lost]:
        (tmp_path / "mirror" / key).unlink()
    write_table(keep_warnings(index, [], missing), tmp_path / "index.parquet")
    index = read_table(tmp_path / "index.parquet")
    assert missing_sites(index) == missing
    gallery = LocalGallery(str(tmp_path / "mirror"))
    where = (gallery, index, ["DNA"], tmp_path / "images", tmp_path / "m.parquet", 0.2)
    if allowed:
        download_plate(*where)
        manifest = read_table(tmp_path / "m.parquet")
        estimate_illumination(
            index, tmp_path / "images", manifest, ["DNA"], tmp_path / "i.npz", max_lost=0.2
        )
    else:
        with pytest.raises(
            UserError, match=r"loses 3 of 10 sites \(30.00%, 2 of them not in its tables"
        ):
            download_plate(*where)
        download_plate(*where[:-1], 0.3)
        manifest = read_table(tmp_path / "m.parquet")
        with pytest.raises(UserError, match="lost 3 of 10 sites"):
            estimate_illumination(
                index, tmp_path / "images", manifest, ["DNA"], tmp_path / "i.npz", max_lost=0.2
            )
