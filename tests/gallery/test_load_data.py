"""All styles of load_data give the same keys; what leads elsewhere is refused."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.base import checked_key
from coda.gallery.load_data import find_load_data, read_load_data, relative_keys
from coda.gallery.open import open_gallery
from hypothesis import given, settings
from hypothesis import strategies as st

SHARED = Path("../shared/data/schemas")
CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
FOLDER = "source_3/images/CP59/images/BR5867a3__2022-04-29T01_02_16-Measurement 1/Images"
PUBLIC = "s3://cellpainting-gallery/cpg0016-jump"
MOUNT = "/home/ubuntu/bucket/cpg0016-jump"
PLACE = "source_3/workspace/load_data_csv/CP59/BR5867a3/"


def sites():
    """Two wells of two sites, file names by channel."""
    return pd.DataFrame(
        [
            {"Metadata_Well": well, "Metadata_Site": str(site)}
            | {channel: f"{well}f{site}-ch{n}.tiff" for n, channel in enumerate(CHANNELS)}
            for well in ("A01", "B02")
            for site in (1, 2)
        ]
    )


def styled(style, root=PUBLIC):
    """Write `sites` in a style of load_data."""
    table = sites()
    rows = table[["Metadata_Well", "Metadata_Site"]].assign(
        Metadata_Plate="BR5867a3", Metadata_Col="1"
    )
    for channel in reversed(CHANNELS):
        if style == "url":
            rows[f"URL_Orig{channel}"] = f"{root}/{FOLDER}/" + table[channel]
        else:
            rows[f"PathName_Orig{channel}"] = f"{root}/{FOLDER}" + ("/" if style == "path/" else "")
            rows[f"FileName_Orig{channel}"] = table[channel]
            rows[f"PathName_Illum{channel}"] = f"{root}/elsewhere/../illum"
    return rows


def put(tmp_path, name, data):
    """Put a load_data table into a gallery and open that."""
    file = tmp_path / PLACE / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return open_gallery(str(tmp_path))


def as_bytes(table, name):
    """Write a table in the format that its name tells."""
    if name.endswith(".parquet"):
        return table.to_parquet(index=False)
    data = table.to_csv(index=False).encode()
    return gzip.compress(data) if name.endswith(".gz") else data


@pytest.mark.parametrize("root", [PUBLIC, MOUNT])
@pytest.mark.parametrize("style", ["url", "path", "path/"])
@pytest.mark.parametrize(
    "name", ["load_data.csv", "load_data.csv.gz", "load_data_with_illum.parquet"]
)
def test_every_style_gives_the_same_keys(tmp_path, style, name, root):
    gallery = put(tmp_path, name, as_bytes(styled(style, root), name))
    (key,) = find_load_data(gallery, "source_3", "CP59", "BR5867a3")
    assert key == PLACE + name
    rows = read_load_data(gallery, key, "source_3", ["Mito", "DNA"])
    assert list(rows) == ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Key_Mito", "Key_DNA"]
    for channel in ("Mito", "DNA"):
        assert rows[f"Key_{channel}"].tolist() == [f"{FOLDER}/{name}" for name in sites()[channel]]
    assert rows["Metadata_Site"].tolist() == ["1", "2", "1", "2"]


def test_the_plain_table_comes_before_the_one_with_illumination(tmp_path):
    gallery = put(tmp_path, "load_data_with_illum.parquet", b"")
    assert len(find_load_data(gallery, "source_3", "CP59", "BR5867a3")) == 1
    put(tmp_path, "load_data.csv.gz", b"")
    names = ["load_data.csv.gz", "load_data_with_illum.parquet"]
    assert find_load_data(gallery, "source_3", "CP59", "BR5867a3") == [
        PLACE + name for name in names
    ]
    assert find_load_data(gallery, "source_3", "CP59", "other") == []


def test_integer_sites_in_parquet(tmp_path):
    table = styled("url").astype({"Metadata_Site": int})
    gallery = put(tmp_path, "load_data.parquet", as_bytes(table, "load_data.parquet"))
    rows = read_load_data(gallery, PLACE + "load_data.parquet", "source_3", ["DNA"])
    assert rows["Metadata_Site"].tolist() == ["1", "2", "1", "2"]


def test_missing_channel_is_named_with_table_and_columns(tmp_path):
    table = styled("url").drop(columns="URL_OrigRNA")
    gallery = put(tmp_path, "load_data.csv", as_bytes(table, "load_data.csv"))
    with pytest.raises(UserError) as told:
        read_load_data(gallery, PLACE + "load_data.csv", "source_3", CHANNELS)
    for word in ("URL_OrigRNA", "PathName_OrigRNA", "BR5867a3", "AGP, DNA, ER, Mito"):
        assert word in str(told.value)


@pytest.mark.parametrize("column", ["Metadata_Well", "Metadata_Site"])
def test_missing_column_is_named(tmp_path, column):
    gallery = put(tmp_path, "load_data.csv", as_bytes(styled("url").drop(columns=column), "x.csv"))
    with pytest.raises(UserError, match=column):
        read_load_data(gallery, PLACE + "load_data.csv", "source_3", ["DNA"])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("load_data.csv.gz", gzip.compress(b"Metadata_Well,Metadata_Site\n" * 99, mtime=0)[:-8]),
        ("load_data.csv.gz", b"not gzip"),
        ("load_data.parquet", b"PAR1"),
        ("load_data.csv", b""),
        ("load_data.csv", b"\xff\xfe\x00bad"),
    ],
)
def test_broken_tables_are_named(tmp_path, name, data):
    gallery = put(tmp_path, name, data)
    with pytest.raises(UserError, match="load_data"):
        read_load_data(gallery, PLACE + name, "source_3", ["DNA"])


@pytest.mark.parametrize(
    "bad",
    [
        f"{PUBLIC}/source_3/images/../../../etc/passwd",
        f"{PUBLIC}/source_3/images/CP59/./x.tiff",
        f"{PUBLIC}/source_3/images/CP59//x.tiff",
        f"{PUBLIC}/source_3/images/CP59/",
        f"{PUBLIC}/source_3/images/CP59/x\\y.tiff",
        f"{PUBLIC}/source_3/images/CP59/x\ny.tiff",
        f"{PUBLIC}/source_3/workspace/x.tiff",
        f"{PUBLIC}/source_33/images/CP59/x.tiff",
        f"{PUBLIC}/source_5/images/CP59/x.tiff",
        f"{PUBLIC}-private/source_3/images/x.tiff",
        "s3://other-bucket/cpg0016-jump/source_3/images/CP59/x.tiff",
        "s3://cellpainting-gallery/cpg0000-jump-pilot/source_3/images/CP59/x.tiff",
        "https://host/source_3/images/CP59/x.tiff",
        "/etc/source_3/images/passwd",
        "",
    ],
)
def test_keys_that_lead_elsewhere_are_refused_with_their_row(tmp_path, bad):
    table = styled("url")
    table.loc[2, "URL_OrigER"] = bad
    rows = table[["Metadata_Well", "Metadata_Site"]]
    with pytest.raises(UserError, match=r"load_data.csv, row 3 \(well B02, site 1\)"):
        relative_keys(table["URL_OrigER"], PUBLIC, "source_3", rows, "load_data.csv")


def test_file_names_cannot_climb(tmp_path):
    table = styled("path/")
    table.loc[0, "FileName_OrigDNA"] = "../../../../../../x.tiff"
    gallery = put(tmp_path, "load_data.csv", as_bytes(table, "load_data.csv"))
    with pytest.raises(UserError, match="row 1"):
        read_load_data(gallery, PLACE + "load_data.csv", "source_3", ["DNA"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["..", ".", "", "a", "b c", "\\", "s3:", "source_3", "images", "\x00"]),
        max_size=6,
    )
)
def test_accepted_keys_lie_below_the_source(parts):
    paths = pd.Series([f"{PUBLIC}/source_3/images/" + "/".join(parts)])
    rows = pd.DataFrame({"Metadata_Well": ["A01"], "Metadata_Site": ["1"]})
    try:
        key = relative_keys(paths, "/data/mirror", "source_3", rows, "table")[0]
    except UserError:
        return
    assert checked_key(key) == key and key.startswith("source_3/images/")


def test_roots_of_ones_own(tmp_path):
    rows = pd.DataFrame({"Metadata_Well": ["A01"], "Metadata_Site": ["1"]})
    key = "my_lab/images/b/images/p/x.tiff"
    for root, written in [
        ("s3://mine/deep/er", f"s3://mine/deep/er/{key}"),
        ("s3://mine/deep/er/", f"/home/ubuntu/bucket/deep/er/{key}"),
        (str(tmp_path), f"{tmp_path}/{key}"),
        (str(tmp_path), key),
        ("data/mine", f"{Path('data/mine').resolve()}/{key}"),
    ]:
        assert relative_keys(pd.Series([written]), root, "my_lab", rows, "t").tolist() == [key]
    with pytest.raises(UserError):
        relative_keys(
            pd.Series([f"s3://mine/deep/{key}"]), "s3://mine/deep/er", "my_lab", rows, "t"
        )


def test_a_site_without_a_file_has_no_key(tmp_path):
    table = styled("path/")
    table.loc[1, "FileName_OrigDNA"] = ""
    gallery = put(tmp_path, "load_data.csv", as_bytes(table, "load_data.csv"))
    rows = read_load_data(gallery, PLACE + "load_data.csv", "source_3", ["DNA", "ER"])
    assert rows["Key_DNA"].isna().tolist() == [False, True, False, False]
    assert rows["Key_ER"].notna().all()


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("load_data_source_4_BR00117035_PathName_style.head.csv", 24),
        ("load_data_source_4_BR00117035_URL_style_current.csv", 1),
        ("load_data_with_illum_source_4_BR00126114_2rows.parquet", 2),
    ],
)
def test_real_tables(tmp_path, file, rows):
    if not (SHARED / file).exists():
        pytest.skip(f"the public table {SHARED / file} is not here")
    data = (SHARED / file).read_bytes()
    gallery = put(tmp_path, file, data)
    table = read_load_data(gallery, PLACE + file, "source_4", CHANNELS)
    assert len(table) == rows
    first = table.iloc[0]
    assert (first["Metadata_Well"], first["Metadata_Site"]) == ("A01", "1")
    for channel, number in zip(CHANNELS, (5, 4, 3, 2, 1), strict=True):
        assert first[f"Key_{channel}"].startswith("source_4/images/2021_")
        assert first[f"Key_{channel}"].endswith(
            f"-Measurement1/Images/r01c01f01p01-ch{number}sk1fk1fl1.tiff"
        )


def test_columns_that_differ_between_rows_are_kept_to_tell_repeated_sites_apart(tmp_path):
    table = styled("url").assign(Metadata_AbsTime="x", Metadata_Z=["1", "2", "1", "2"])
    gallery = put(tmp_path, "load_data.csv", as_bytes(table, "load_data.csv"))
    rows = read_load_data(gallery, PLACE + "load_data.csv", "source_3", ["DNA"])
    places = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    assert list(rows) == [*places, "Metadata_Z", "Key_DNA"]


@pytest.mark.parametrize("kind", ["Frame", "Series"])
@pytest.mark.parametrize("name", ["load_data.csv", "load_data.parquet"])
def test_a_plane_within_files_is_refused(tmp_path, kind, name):
    """As CellProfiler names the planes of a stack; the first plane of a file is the file."""
    table = styled("url").assign(**{f"{kind}_Orig{channel}": 0 for channel in CHANNELS})
    gallery = put(tmp_path, name, as_bytes(table, name))
    assert len(read_load_data(gallery, PLACE + name, "source_3", CHANNELS)) == 4
    table.loc[2, f"{kind}_OrigER"] = 1
    put(tmp_path, name, as_bytes(table, name))
    assert len(read_load_data(gallery, PLACE + name, "source_3", ["DNA", "Mito"])) == 4
    with pytest.raises(UserError, match=rf"takes ER from plane 1 of its files \({kind}_OrigER\)"):
        read_load_data(gallery, PLACE + name, "source_3", CHANNELS)


def test_a_table_that_was_cut_off_is_told(tmp_path):
    whole = as_bytes(styled("url"), "load_data.csv")
    gallery = put(tmp_path, "load_data.csv", whole[: whole.rindex(b",")])
    with pytest.raises(UserError, match="it may be cut off; correct it or leave its plate out"):
        read_load_data(gallery, PLACE + "load_data.csv", "source_3", ["DNA"])


def test_a_folder_reached_by_a_link_is_the_same_folder(tmp_path, monkeypatch):
    """As where the home is a link; the process may see the resolved path, or be given a relative root."""
    (tmp_path / "real/plates" / FOLDER).mkdir(parents=True)
    (tmp_path / "home").symlink_to("real")
    monkeypatch.chdir(tmp_path / "home")
    table = styled("url", f"{tmp_path}/home/plates")
    name = "load_data.csv"
    for root in ("plates", f"{tmp_path}/real/plates", f"{tmp_path}/home/plates/"):
        put(tmp_path / "real/plates", name, as_bytes(table, name))
        rows = read_load_data(open_gallery(root), PLACE + name, "source_3", ["DNA"])
        assert rows["Key_DNA"].tolist() == [f"{FOLDER}/{file}" for file in sites()["DNA"]]
    elsewhere = table.replace("home/plates", "home", regex=True)
    put(tmp_path / "real/plates", name, as_bytes(elsewhere, name))
    with pytest.raises(UserError, match="is refused, because it is no image of source_3"):
        read_load_data(open_gallery("plates"), PLACE + name, "source_3", ["DNA"])
    outside = table.replace("plates/source_3", "plates/../source_3", regex=True)
    put(tmp_path / "real/plates", name, as_bytes(outside, name))
    with pytest.raises(UserError, match="is refused"):
        read_load_data(open_gallery("plates"), PLACE + name, "source_3", ["DNA"])
