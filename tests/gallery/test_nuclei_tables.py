"""The gallery's nuclei: found in every grouping, joined to sites, faults told and survived."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.base import BrokenObject
from coda.gallery.local import LocalGallery
from coda.gallery.nuclei_tables import download_nuclei, parse_group, read_nuclei
from coda.gallery.open import open_gallery
from s3_server import s3_server

PLATE = "source_3/workspace/analysis/B1/P1/analysis"
HEADER = "ImageNumber,ObjectNumber,AreaShape_Area,Location_Center_X,Location_Center_Y\n"
IMAGE = "ImageNumber,Metadata_Plate,Metadata_Well,Metadata_Site,Count_Nuclei\n"


def index_of(sites, source="source_3"):
    table = pd.DataFrame(sites, columns=["Metadata_Well", "Metadata_Site"])
    named = {"Metadata_Source": source, "Metadata_Batch": "B1", "Metadata_Plate": "P1"}
    return table.assign(**named)


def put(root: Path, key: str, text: str | bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def nuclei_of(image, number):
    """Rows of Nuclei.csv: nucleus k of an image lies at x = image + k / 8, y = image - k / 8."""
    rows = [f"{image},{k},300,{image + k / 8},{image - k / 8}" for k in range(1, number + 1)]
    return "\n".join(rows) + "\n"


def expected_of(sites):
    """The same as a table; `sites` holds (well, site, image, number)."""
    return [
        (well, site, image - k / 8, image + k / 8)
        for well, site, image, number in sites
        for k in range(1, number + 1)
    ]


SITES = [("A01", 0, 10, 2), ("A01", 1, 11, 3), ("B02", 0, 20, 1), ("B02", 1, 21, 4)]


def write_groups(root, grouping):
    """The nuclei of `SITES` in folders of one site, well or plate each."""
    groups = {}
    for site in SITES:
        well, number = site[:2]
        name = {"site": f"P1-{well}-{number}", "well": well, "dashed": f"P1-{well}"}.get(
            grouping, "P1"
        )
        groups.setdefault(name, []).append(site)
    for name, members in groups.items():
        text = HEADER + "".join(nuclei_of(image, number) for *_, image, number in members)
        packed = grouping == "packed plate"
        put(root, f"{PLATE}/{name}/Nuclei.csv" + ".gz" * packed,
            gzip.compress(text.encode()) if packed else text)  # fmt: skip
        rows = [f"{image},P1,{well},{site},9\n" for well, site, image, _ in members]
        put(root, f"{PLATE}/{name}/Image.csv", IMAGE + "".join(rows))
        put(root, f"{PLATE}/{name}/outlines/{name}_nuclei_outlines.png", b"x")


@pytest.mark.parametrize("grouping", ["site", "well", "dashed", "plate", "packed plate"])
def test_every_grouping_gives_the_same_nuclei(tmp_path, grouping, capsys):
    write_groups(tmp_path / "gallery", grouping)
    index = index_of([(well, site) for well, site, *_ in SITES])
    out = tmp_path / "nuclei/P1.parquet"
    found = download_nuclei(LocalGallery(str(tmp_path / "gallery")), index, out, 3)
    assert list(found.itertuples(index=False, name=None)) == expected_of(SITES)
    pd.testing.assert_frame_equal(pd.read_parquet(out), found)
    assert [path.name for path in out.parent.iterdir()] == ["P1.parquet"]
    assert "no nuclei" not in capsys.readouterr().err


def test_from_a_server_only_what_the_index_asks_for(tmp_path):
    root = tmp_path / "served/bucket"
    write_groups(root, "site")
    put(root, f"{PLATE}/P1-A01-1/Nuclei.csv", "not needed, and not read")
    with s3_server(tmp_path / "served") as endpoint:
        gallery = open_gallery("s3://bucket", endpoint, attempts=2, timeout=5)
        index = index_of([("B02", 1), ("B02", 0)])
        found = download_nuclei(gallery, index, tmp_path / "P1.parquet")
    assert list(found.itertuples(index=False, name=None)) == expected_of([SITES[3], SITES[2]])


def test_a_plate_without_nuclei_gives_an_empty_table_and_says_so(tmp_path, capsys):
    (tmp_path / "gallery").mkdir()
    gallery, out = LocalGallery(str(tmp_path / "gallery")), tmp_path / "P1.parquet"
    (tmp_path / "P1.partial").mkdir()
    (tmp_path / "P1.partial/left_by_a_kill.csv").write_text("x")
    found = download_nuclei(gallery, index_of([("A01", 0)]), out)
    assert found.empty and list(pd.read_parquet(out)) == list(found)
    assert not (tmp_path / "P1.partial").exists()
    said = capsys.readouterr().err
    assert f"source_3 P1: the gallery has no nuclei in {PLATE}" in said and "segmented" in said


def test_a_bad_group_costs_its_sites_and_is_named(tmp_path, capsys):
    root = tmp_path / "gallery"
    write_groups(root, "site")
    put(root, f"{PLATE}/P1-A01-0/Nuclei.csv", HEADER + "10,1,300,wide,7\n")
    (root / f"{PLATE}/P1-A01-1/Nuclei.csv").unlink()
    put(root, f"{PLATE}/Experiment/Nuclei.csv", HEADER)
    index = index_of([(well, site) for well, site, *_ in SITES])
    found = download_nuclei(LocalGallery(str(root)), index, tmp_path / "P1.parquet", max_lost=0.25)
    assert list(found.itertuples(index=False, name=None)) == expected_of(SITES[2:])
    said = capsys.readouterr().err
    for words in ("Nuclei.csv of P1-A01-0 cannot be read", "folder Experiment", "of 2 site(s)"):
        assert words in said


def test_an_odd_site_in_a_table_of_images_costs_its_group(tmp_path, capsys):
    root = tmp_path / "gallery"
    write_groups(root, "well")
    image = root / f"{PLATE}/A01/Image.csv"
    image.write_text(image.read_text().replace("A01,1", "A01,s1"))
    index = index_of([(well, site) for well, site, *_ in SITES])
    found = download_nuclei(LocalGallery(str(root)), index, tmp_path / "P1.parquet", max_lost=0.5)
    assert list(found.itertuples(index=False, name=None)) == expected_of(SITES[2:])
    assert "Row 2 of Image.csv of A01 has the site 's1'" in capsys.readouterr().err


class Throttled(LocalGallery):
    """A gallery that does not deliver the objects below some folders."""

    def __init__(self, root, names):
        super().__init__(root)
        self.names = names

    def fetch(self, key, path, listed=None):
        if key.split("/")[-2] in self.names:
            raise BrokenObject("503 SlowDown, after 6 attempts", 6, 8.0)
        return super().fetch(key, path)


@pytest.mark.parametrize(
    ("grouping", "failing"), [("site", {"P1-A01-1", "P1-B02-0"}), ("well", {"A01"})]
)
def test_groups_that_fail_stop_the_plate_beyond_what_may_be_lost(tmp_path, grouping, failing):
    write_groups(tmp_path / "gallery", grouping)
    gallery = Throttled(str(tmp_path / "gallery"), failing)
    index, out = index_of([(well, site) for well, site, *_ in SITES]), tmp_path / "P1.parquet"
    told = (
        r"source_3 P1 loses the nuclei of 2 of 4 sites \(.*503 SlowDown.*gallery\.max_lost = 0\.4 "
    )
    with pytest.raises(UserError, match=told):
        download_nuclei(gallery, index, out, 3, 0.4)
    assert not out.exists()
    assert (
        len(
            download_nuclei(gallery, index, out, 3, 0.5)[
                ["Metadata_Well", "Metadata_Site"]
            ].drop_duplicates()
        )
        == 2
    )


def test_nuclei_of_which_none_fits_stop_the_plate(tmp_path):
    root = tmp_path / "gallery"
    write_groups(root, "well")
    gallery, out = LocalGallery(str(root)), tmp_path / "P1.parquet"
    with pytest.raises(UserError, match="other sites.*crops.nuclei to segmented"):
        download_nuclei(gallery, index_of([("A01", 7)]), out)
    for path in root.rglob("Image.csv"):
        path.unlink()
    with pytest.raises(UserError, match="source_3 P1.*Image.csv.*crops.nuclei to segmented"):
        download_nuclei(gallery, index_of([("A01", 0)]), out)
    assert not out.exists() and not (tmp_path / "P1.partial").exists()


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


def test_bad_nuclei_are_named(tmp_path):
    def file(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    nuclei = file("n.csv", "ImageNumber,Location_Center_X,Location_Center_Y\n10,5.5,7\n10,,\n")
    site = read_nuclei(nuclei, "P1-A02-1", "P1")
    assert site.to_numpy().tolist() == [["A02", 1, 7, 5.5]]
    images = file("i.csv", "ImageNumber,Metadata_Well,Metadata_Site\n10,b3,4\n")
    assert read_nuclei(nuclei, "P1", "P1", images)["Metadata_Well"].tolist() == ["B03"]
    with pytest.raises(UserError, match="P1-A02.*Image.csv"):
        read_nuclei(nuclei, "P1-A02", "P1")
    for row, words in (
        ("11,A02,s2", "the site 's2'"),
        ("11,,1", "no well"),
        ("11,A02,", "no site"),
    ):
        images = file("i.csv", f"ImageNumber,Metadata_Well,Metadata_Site\n10,b3,4\n{row}\n")
        with pytest.raises(UserError, match=f"Row 2 of Image.csv of P1 has {words}"):
            read_nuclei(nuclei, "P1", "P1", images)
    images = file("i.csv", "ImageNumber,Metadata_Well,Metadata_Site\n1,A01,1\n")
    with pytest.raises(UserError, match="image numbers of 1 nuclei"):
        read_nuclei(nuclei, "P1", "P1", images)
    with pytest.raises(UserError, match="Nuclei.csv of P1.*Location_Center_Y"):
        read_nuclei(file("x.csv", "ImageNumber,Location_Center_X\n1,2\n"), "P1-A02-1", "P1")
    cut = tmp_path / "Nuclei.csv.gz"
    cut.write_bytes(gzip.compress(nuclei.read_bytes())[:-12])
    with pytest.raises(UserError, match="Nuclei.csv of P1-A02-1 cannot be read"):
        read_nuclei(cut, "P1-A02-1", "P1")
    with pytest.raises(UserError, match="does not exist"):
        read_nuclei(tmp_path / "Nuclei.csv", "P1-A02-1", "P1")
    with pytest.raises(UserError, match="names neither"):
        read_nuclei(nuclei, "Experiment", "P1")


def test_a_link_in_the_place_of_the_scratch_folder_is_refused(tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (tmp_path / "P1.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="is a link, which is not followed"):
        download_nuclei(
            LocalGallery(str(tmp_path / "gallery")), index_of([("A01", 0)]), tmp_path / "P1.parquet"
        )
    assert (tmp_path / "precious/file").exists()
