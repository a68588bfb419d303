"""Own images: names of every export give well, site and channel back, and nothing is lost in silence."""

import inspect
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from coda.errors import UserError
from coda.files import read_table
from coda.gallery.base import Gallery
from coda.gallery.download import download_plate
from coda.gallery.image_names import EXPORTS, OwnImages, list_own_images, own_images, place_names
from coda.gallery.open import open_gallery
from coda.gallery.planes import PlanesOf
from coda.gallery.site_index import index_plate
from coda.gallery.tiff import read_tiff
from coda.logs import warned
from hypothesis import given
from hypothesis import strategies as st
from s3_server import s3_server

CHANNELS = ["DNA", "ER"]
GUID = "0EFC51B3-6F57-4273-AFE3-BAA0781C8ACF"
# How each export writes row and column (from 1), site, channel and plane: written down apart from the patterns.
WRITERS = {
    "opera": lambda r, c, s, w, z: f"r{r:02d}c{c:02d}f{s:02d}p{z:02d}-ch{w}sk1fk1fl1.tiff",
    "imagexpress": lambda r, c, s, w, z: (
        f"TimePoint_1/ZStep_{z}/scr_{well(r, c)}_s{s}_w{w}{GUID}.TIF"
    ),
    "yokogawa": lambda r, c, s, w, z: f"scr_{well(r, c)}_T0001F{s:03d}L01A01Z{z:02d}C{w:02d}.tif",
    "incell": lambda r, c, s, w, z: (
        f"{letters(r)} - {c:02d}(fld {s} wv {('', 'UV - DAPI', 'Blue - FITC')[w]} z {z}).tif"
    ),
    "{plate}/{well}_s{site}_w{channel}_z{plane}.tif": (
        lambda r, c, s, w, z: f"P1/{well(r, c)}_s{s}_w{w}_z{z}.tif"
    ),
    "{row}-{column}-{site}-*-{channel}-{plane}.tif": (
        lambda r, c, s, w, z: f"{r}-{c}-{s}-any thing-{w}-{z}.tif"
    ),
    r"(?P<well>[A-Z]+\d+)/f(?P<site>\d+)/(?P<plane>\d+)c(?P<channel>\d)\.tif": (
        lambda r, c, s, w, z: f"{well(r, c)}/f{s}/{z}c{w}.tif"
    ),
}


def letters(row):
    return chr(64 + row) if row <= 26 else "A" + chr(64 + row - 26)


def well(row, column):
    return f"{letters(row)}{column:02d}"


def gallery_of(folder, names):
    for name in names:
        (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).touch()
    return open_gallery(str(folder))


def listed(root, names, channels=CHANNELS, **said):
    said.setdefault("tokens", {"DNA": "1", "ER": "2"})
    return list_own_images(gallery_of(root, names), OwnImages(**said), "lab", "P1", channels)


@pytest.mark.parametrize("export", WRITERS)
@given(
    places=st.sets(
        st.tuples(st.integers(1, 32), st.integers(1, 48), st.integers(1, 30)), min_size=1, max_size=5
    ),
    plane=st.integers(1, 9),
    deep=st.booleans(),
)  # fmt: skip
def test_names_of_every_export_come_back(export, places, plane, deep):
    """Written by the export's own rule, read by its pattern: each file in its place, wherever the folder lies."""
    write = WRITERS[export]
    above = "Screen 7/2026 A01_s1/" if deep else ""
    written = {
        above + write(row, column, site, channel, plane): (well(row, column), site, str(channel))
        for row, column, site in places
        for channel in (1, 2)
    }
    table = place_names(sorted(written), export, "P1")
    names = {"UV - DAPI": "1", "Blue - FITC": "2"}
    found = {
        row.name: (row.well, row.site, names.get(row.channel, row.channel))
        for row in table.itertuples(index=False)
    }
    assert found == written
    assert set(table["plane"]) == {plane}


@pytest.mark.parametrize("export", EXPORTS)
def test_exports_are_recognised_by_their_names(tmp_path, export, capsys):
    names = [WRITERS[export](2, 3, site, w, 1) for site in (1, 2) for w in (1, 2)]
    tokens = (
        {"DNA": "UV - DAPI", "ER": "blue - fitc"}
        if export == "incell"
        else {"DNA": "w1", "ER": "02"}
    )
    sites = listed(tmp_path, [f"Images/{name}" for name in names], folder="Images", tokens=tokens)
    assert sites["Metadata_Well"].tolist() == ["B03", "B03"]
    assert sites["Metadata_Site"].tolist() == [1, 2]
    assert sites[["Key_DNA", "Key_ER"]].to_numpy().ravel().tolist() == [
        f"Images/{n}" for n in names
    ]
    assert f"named as {export} exports them" in capsys.readouterr().err


@given(
    odd=st.lists(
        st.text(st.sampled_from("ABab01_s-. w"), min_size=1, max_size=12).map(
            lambda name: f"o{name}.tif"
        ),
        max_size=6,
        unique=True,
    )
)
def test_every_tiff_is_placed_or_warned_of(odd):
    """Nothing falls under the table: what is in no site is in a message."""
    pattern = "{well}_s{site}_w{channel}.tif"
    names = {"A01_s1_w1.tif", "A01_s1_w2.tif", *(f"odd/{name}" for name in odd)}
    placed = set(place_names(sorted(names), pattern, "P1")["name"])
    with tempfile.TemporaryDirectory() as folder, warned() as messages:
        try:
            listed(folder, names, pattern=pattern)
        except UserError as error:
            assert "two images" in str(error)
            return
    left = {name for name in names - placed if Path(folder, name).suffix == ".tif"}
    assert len(messages) == bool(left)
    if left:
        assert f"{len(left)} TIFF file(s) do not fit the pattern" in messages[0]


def test_other_plates_thumbnails_and_tables_are_told(tmp_path, capsys):
    names = [f"{plate}_B02_s1_w{w}.tif" for plate in ("P1", "P2") for w in (1, 2)]
    names += ["P1_B02_s1_w1_thumb.tif", "notes.txt"]
    with warned() as messages:
        sites = listed(tmp_path, names, pattern="{plate}_{well}_s{site}_w{channel}.tif")
    told = capsys.readouterr().err
    assert sites["Key_DNA"].tolist() == ["P1_B02_s1_w1.tif"] and not messages
    assert "2 file(s) are images of other plates (P2_B02" in told
    assert "1 thumbnail(s)" in told and "1 other file(s) are left out (notes.txt)" in told


OPERA = [WRITERS["opera"](1, 1, 1, w, z) for w in (1, 2) for z in (1, 2)]
YOKOGAWA = [WRITERS["yokogawa"](1, 1, 1, w, 1) for w in (1, 2)]


@pytest.mark.parametrize(
    ("names", "said", "word"),
    [
        ([], {}, "is absent or empty"),
        (["x.tif"], {}, r"none of the exports known here .* for example x\.tif; say in the column"),
        ([*OPERA, *YOKOGAWA], {}, r"several ways \(4 like opera and 2 like yokogawa\)"),
        (OPERA, {}, r"several images of A01 1 1 .*: planes 1, 2; say which one to take in the column"),
        (OPERA, {"plane": 3}, "asks for plane 3 of lab P1, but the names of its files have 1, 2"),
        (YOKOGAWA, {"tokens": {"DNA": "1"}}, r"channel ER; its files have the channels 1, 2. Say un"),
        (YOKOGAWA, {"tokens": {"DNA": "1"}}, r"such as {ER: '2'}"),
        (YOKOGAWA, {"tokens": {"DNA": "1", "ER": "5"}}, r"of the channel ER \(5\); its files have"),
        (YOKOGAWA, {"tokens": {"DNA": "1", "ER": "C01"}}, "gives DNA and ER the same channel 1"),
        (YOKOGAWA, {"pattern": "{well}-{site}-{channel}.tif"}, "None of the 2 files in .* fits the"),
        (YOKOGAWA, {"pattern": "{wel}_{channel}.tif"}, "unknown part {wel}; did you mean well"),
        (YOKOGAWA, {"pattern": "{site}_{channel}.tif"}, "does not say where the well stands"),
        (YOKOGAWA, {"pattern": r"(?P<well>\w+.tif"}, "is no regular expression"),
        (YOKOGAWA, {"pattern": r"(?P<fov>\w+).tif"}, "unknown group fov"),
        (["a/A01_1.tif", "b/A01_1.tif"], {"pattern": "{well}_{channel}.tif"}, "two images of A01 site"),
        (["A1_1.tif", "A01_1.tif"], {"pattern": "{well}_{channel}.tif"}, "two images of A01 site 1 DNA"),
        (["A01.tif"], {"pattern": "{well}.tif"}, "A01.tif names no channel: the pattern needs {chan"),
        (
            ["X_A01_s1_w1.tif", "Y_A02_s1_w1.tif"],
            {"pattern": "imagexpress"},
            r"begin in 2 ways \(X, Y\), none of them the plate P1",
        ),
    ],
)  # fmt: skip
def test_each_fault_gets_one_sentence(tmp_path, names, said, word):
    channels = ["DNA"] if len(names) == 2 and "A" in names[0][:3] else CHANNELS
    with pytest.raises(UserError, match=word):
        listed(tmp_path, names, channels, **said)


def test_a_stated_plane_or_time_is_taken(tmp_path):
    sites = listed(tmp_path, OPERA, plane=2)
    assert sites["Key_ER"].tolist() == [WRITERS["opera"](1, 1, 1, 2, 2)]
    said = own_images({"images": "/a/b/", "plane": "2.0", "time": "1"}, {"DNA": 1})
    assert said == OwnImages("a/b", None, 2, 1, {"DNA": "1"})
    assert own_images({"root": "x", "load_data": "y"}, {}) is None
    with pytest.raises(UserError, match="plane 'all'; a plane is a whole number"):
        own_images({"pattern": "opera", "plane": "all"}, {})


def test_wells_that_no_plate_has_are_not_placed(tmp_path):
    with warned() as messages:
        sites = listed(
            tmp_path, ["A01_1.tif", "A01_2.tif", "ZZ99_1.tif"], pattern="{well}_{channel}.tif"
        )
    assert sites["Metadata_Well"].tolist() == ["A01"]
    assert "1 TIFF file(s) do not fit" in messages[0] and "ZZ99_1.tif" in messages[0]


def stack(path, seed, names=("Hoechst", "ConA"), **more):
    pixels = np.random.default_rng(seed).integers(1, 4000, (2, 20, 30), dtype=np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}} | more
    tifffile.imwrite(path, pixels, metadata=metadata, photometric="minisblack")
    return pixels


@pytest.mark.parametrize("served", [False, True])
def test_channels_within_an_ome_tiff_become_files_of_their_own(tmp_path, served):
    """From the names to the pixels, from a folder and over S3; the order of channels is each file's own."""
    first = stack(tmp_path / "bucket/lab/B02_f1.ome.tif", 1)
    second = stack(tmp_path / "bucket/lab/B02_f2.ome.tif", 2, ("ConA", "Hoechst"))
    said = OwnImages("lab", "{well}_f{site}.ome.tif", tokens={"DNA": "hoechst", "ER": "ConA"})
    wells = read_wells_of("B02")
    with s3_server(tmp_path) as address:
        gallery = (
            open_gallery("s3://bucket", address)
            if served
            else open_gallery(str(tmp_path / "bucket"))
        )
        index = index_plate(gallery, "lab", "b", "P1", *wells, CHANNELS, images=said)
        assert index["Metadata_Site"].tolist() == [1, 2]
        manifest = tmp_path / "manifest.parquet"
        download_plate(PlanesOf(gallery), index, CHANNELS, tmp_path / "images", manifest, 0.0)
    assert set(read_table(manifest)["status"]) == {"ok"}
    for site, channel, pixels in ((1, "DNA", first[0]), (1, "ER", first[1])):
        assert (read_tiff(tmp_path / f"images/B02_s{site}_{channel}.tiff") == pixels).all()
    assert (read_tiff(tmp_path / "images/B02_s2_DNA.tiff") == second[1]).all()
    assert not list((tmp_path / "images").glob("*.whole"))


def read_wells_of(*wells):
    import pandas as pd

    layout = pd.DataFrame({"Metadata_Well": wells}).assign(
        Metadata_Source="lab", Metadata_Plate="P1", Metadata_JCP2022="x"
    )
    columns = ["InChIKey", "pert_iname", "pert_type", "moa"]
    compounds = pd.DataFrame({"Metadata_JCP2022": ["x"]}).assign(
        **dict.fromkeys([f"Metadata_{name}" for name in columns], "trt")
    )
    return layout, compounds


def test_stacks_that_do_not_say_what_they_hold_are_refused(tmp_path):
    said = {"pattern": "{well}.ome.tif", "tokens": {"DNA": "Hoechst", "ER": "ConA"}}
    tifffile.imwrite(tmp_path / "A01.ome.tif", np.ones((2, 9, 9), np.uint16), ome=False)
    with pytest.raises(UserError, match="no OME metadata that say which page is which channel"):
        list_own_images(open_gallery(str(tmp_path)), OwnImages(**said), "lab", "P1", CHANNELS)
    planes = np.ones((3, 2, 9, 9), np.uint16)
    tifffile.imwrite(tmp_path / "A01.ome.tif", planes, metadata={"axes": "ZCYX"})
    with pytest.raises(UserError, match="its axes are ZCYX, but only channels may be several"):
        list_own_images(open_gallery(str(tmp_path)), OwnImages(**said), "lab", "P1", CHANNELS)


def test_a_channel_that_one_file_lacks_loses_its_site_alone(tmp_path):
    stack(tmp_path / "A01_1.ome.tif", 1)
    stack(tmp_path / "A01_2.ome.tif", 2, ("Hoechst", "other"))
    said = OwnImages("", "{well}_{site}.ome.tif", tokens={"DNA": "Hoechst", "ER": "ConA"})
    gallery = open_gallery(str(tmp_path))
    index = index_plate(gallery, "lab", "b", "P1", *read_wells_of("A01"), CHANNELS, images=said)
    manifest = tmp_path / "out/manifest.parquet"
    download_plate(PlanesOf(gallery), index, CHANNELS, tmp_path / "out/images", manifest, 0.5)
    lost = read_table(manifest).query("status != 'ok'")
    assert lost["channel"].tolist() == ["ER"]
    assert "its channels are Hoechst, other, not ConA" in lost["reason"].iloc[0]


def test_a_gallery_of_planes_hands_on_all_that_a_gallery_can():
    for name, method in vars(Gallery).items():
        if callable(method) and not name.startswith("_"):
            own = vars(PlanesOf)[name]
            assert (
                inspect.signature(own).parameters.keys()
                == inspect.signature(method).parameters.keys()
            )


@pytest.mark.parametrize(
    ("pattern", "name", "words"),
    [
        (r"(?P<well>(\w+\s?)*)!", "a" * 200, "takes more than 1 s"),
        ("*a" * 40 + "{well}", "a" * 250, "takes more than 1 s"),
        (r"(?P<well>A01)_(?P<site>.*)", "A01_s1.tif", "'s1.tif' in A01_s1.tif for the site"),
        (r"(?P<well>A01)_(?P<plane>.*)", "A01_².tif", "for the plane, which is a whole number"),
        (r"(?P<well>.*)", "A-01.tif", "None of the 1 files"),
        (r"(?P<row>.)(?P<column>.*)_x", "²01_x", "None of the 1 files"),
        (r"(?P<well>\d{0,99999999999})", "A01", "no regular expression"),
    ],
)
def test_patterns_that_take_anything_get_one_sentence(tmp_path, monkeypatch, pattern, name, words):
    monkeypatch.setattr("coda.gallery.image_names.SECONDS", 1)
    gallery = gallery_of(tmp_path, [name])
    with pytest.raises(UserError, match=words):
        list_own_images(gallery, OwnImages("", pattern), "lab", "P1", CHANNELS)


@pytest.mark.parametrize("number", ["²", "-1", "1e3", ""])
def test_a_plane_is_a_whole_number(number):
    with pytest.raises(UserError, match="a plane is a whole number"):
        own_images({"images": "x", "plane": number}, {})
