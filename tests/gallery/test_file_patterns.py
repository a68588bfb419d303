"""File names of every source, against real keys and the public tables of channel numbers."""

import csv
import re
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.file_patterns import CHANNELS, NAMINGS, list_images, plate_folders
from coda.gallery.open import open_gallery
from coda.logs import warned

SHARED = Path("../shared/data")
GUID = "EFC51B3-6F57-4273-AFE3-BAA0781C8ACF"
TARGET2 = {f"source_{n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)}


def gallery_of(tmp_path, keys):
    """Make a gallery of empty files."""
    for key in keys:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).touch()
    return open_gallery(str(tmp_path))


def table(name):
    """Rows of a public table."""
    if not (SHARED / name).exists():
        pytest.skip(f"the public table {SHARED / name} is not here")
    with open(SHARED / name, newline="") as handle:
        return list(csv.DictReader(handle))


def test_all_target_2_sources_are_known():
    assert set(NAMINGS) >= TARGET2


def test_channel_numbers_agree_with_the_public_tables():
    for row in table("metadata/channel_mapping.csv"):
        source = f"source_{row['Metadata_Source']}"
        if source in NAMINGS:
            listed = [int(row[f"Metadata_Channel_Num_{channel}"]) for channel in CHANNELS]
            assert listed == list(NAMINGS[source].numbers), source
    for row in table("schemas/source_table.csv"):
        if row["source"] in NAMINGS:
            listed = [int(re.match(r"[Cw]?(\d+)", row[channel])[1]) for channel in CHANNELS]
            assert listed == list(NAMINGS[row["source"]].numbers), row["source"]
            assert NAMINGS[row["source"]].first_site == (
                0 if "0-based" in row["site_numbering"] else 1
            )


def test_real_keys_are_understood(tmp_path):
    """The real examples show bright field or single channels; all have a well, and none is lost."""
    plates = {
        "UL000109": "source_1", "1053601756": "source_2", "BR5867a3": "source_3", "C13443aW": "source_3",
        "BR00117035": "source_4", "ADMJUM001": "source_5", "110000293081": "source_6",
        "CP1-SC1-01": "source_7", "A1170383": "source_8", "GR00003381": "source_9",
        "Dest210531-152149": "source_10", "EC000001": "source_11", "CP-CC9-R1-01": "source_13",
    }  # fmt: skip
    keys = [row["key"].split("cpg0016-jump/")[1] for row in table("schemas/keys_per_source.csv")]
    seen = set()
    for key in keys:
        source, folder = key.split("/")[0], "/".join(key.split("/")[:5])
        for plate in (plate for plate, owner in plates.items() if owner == source):
            if plate_folders([folder], plate):
                naming = NAMINGS[source]
                pattern = naming.pattern.replace("{plate}", re.escape(plate))
                match = re.fullmatch(pattern, key.removeprefix(f"{folder}/{naming.subfolder}"))
                assert match, key
                assert match["site"].isdigit() and match["channel"].isdigit()
                seen.add(plate)
    assert seen == set(plates)


def test_real_field_has_its_channels_where_the_table_says():
    files = sorted((SHARED / "real/jump_source1_A02_s1").glob("*.tiff"))
    if not files:
        pytest.skip("the real field is not here")
    numbers = {
        int(re.fullmatch(NAMINGS["source_1"].pattern, file.name)["channel"]) for file in files
    }
    assert numbers == set(NAMINGS["source_1"].numbers)


@pytest.mark.parametrize(
    ("plate", "expected"),
    [
        ("EC000157", ["EC000157__2021-06-01T01_02_03-Measurement1", "EC000157real-x__2021-05-01T0_0_0-Measurement1"]),
        ("BR0", ["BR0__2021-05-02T16_02_51-Measurement1", "BR0__2021-05-02T16_02_51-Measurement 2",
                 "BR0__2021-05-02T16_02_51-Measurement10", "BR0__2021-11-02T01_01_01-Measurement1"]),
        ("ADMJUM001", ["P01_ADMJUM001"]),
        ("LM37-70_1", ["LM37-70_1"]),
        ("CP-CC9-R1-2", []),
    ],
)  # fmt: skip
def test_folders_of_a_plate_the_latest_last(plate, expected):
    folders = [
        "EC000157real-x__2021-05-01T0_0_0-Measurement1",
        "EC000157__2021-06-01T01_02_03-Measurement1",
        "EC0001571__2021-06-01T01_02_03-Measurement1",
        "BR0__2021-11-02T01_01_01-Measurement1",
        "BR0__2021-05-02T16_02_51-Measurement10",
        "BR0__2021-05-02T16_02_51-Measurement1",
        "BR0__2021-05-02T16_02_51-Measurement 2",
        "BR00__2021-05-02T16_02_51-Measurement1",
        "P01_ADMJUM001",
        "ADMJUM0011",
        "LM37-70_1",
        "LM37-70_11",
        "CP-CC9-R1-29",
    ]
    keys = [f"source_3/images/b/images/{folder}" for folder in folders]
    assert [key.rpartition("/")[2] for key in plate_folders(keys, plate)] == expected


def test_thumbnails_planes_and_other_files_are_passed_over(tmp_path):
    folder = "source_8/images/J1/images/A1"
    names = [f"HTS_A01_s1_w{number}{number}{GUID}.tif" for number in range(1, 6)]
    extra = [f"HTS_A01_s1_w1_thumb{number}{GUID}.tif" for number in range(5)]
    keys = [f"{folder}/Images/{name}" for name in [*names, *extra, "A1.HTD", "TimePoint/x.tif"]]
    sites = list_images(gallery_of(tmp_path, keys), folder, "source_8", "A1", list(CHANNELS))
    assert len(sites) == 1
    assert sites.loc[0, "Key_DNA"] == f"{folder}/Images/{names[4]}"
    assert sites.loc[0, "Key_Mito"] == f"{folder}/Images/{names[0]}"


def test_other_planes_and_times_are_passed_over(tmp_path):
    folder = "source_4/images/b/images/P__2021-05-02T16_02_51-Measurement1"
    keys = [f"{folder}/Images/r27c48f09p0{plane}-ch5sk1fk1fl1.tiff" for plane in (1, 2)]
    keys += [f"{folder}/Images/r27c48f09p01-ch5sk2fk1fl1.tiff"]
    sites = list_images(gallery_of(tmp_path, keys), folder, "source_4", "P", ["DNA", "ER"])
    assert sites["Metadata_Well"].tolist() == ["AA48"] and sites["Metadata_Site"].tolist() == [9]
    assert sites.loc[0, "Key_DNA"] == keys[0] and pd.isna(sites.loc[0, "Key_ER"])


def test_two_images_of_a_site_and_channel_are_told(tmp_path, capsys):
    folder = "source_8/images/J1/images/A1"
    keys = [f"{folder}/Images/HTS_A01_s1_w5{number}{GUID}.tif" for number in (1, 2)]
    with warned() as messages:
        sites = list_images(gallery_of(tmp_path, keys), folder, "source_8", "A1", ["DNA"])
    assert sites["Key_DNA"].tolist() == keys[1:]
    assert "source_8 A1: 1 image(s)" in messages[0] and "(A01)" in messages[0]


def test_a_plates_name_is_no_expression(tmp_path):
    """A dot in a plate's name is a dot."""
    folder = "source_2/images/b/images/a.1"
    keys = [f"{folder}/{name}_A01_T0001F001L01A01Z01C01.tif" for name in ("a.1", "ax1")]
    sites = list_images(gallery_of(tmp_path, keys), folder, "source_2", "a.1", ["DNA"])
    assert sites["Key_DNA"].tolist() == keys[:1]


def test_what_cannot_be_listed_is_told(tmp_path):
    gallery = gallery_of(tmp_path, ["source_2/images/b/images/x/other.tif"])
    with pytest.raises(UserError, match="source_99 names its images is not known"):
        list_images(gallery, "source_99/images/b/images/x", "source_99", "x", ["DNA"])
    with pytest.raises(UserError, match="holds no image"):
        list_images(gallery, "source_2/images/b/images/x", "source_2", "x", ["DNA"])
    with pytest.raises(UserError, match="channels names Brightfield"):
        list_images(gallery, "source_2/images/b/images/x", "source_2", "x", ["Brightfield"])
