"""The site index: joined, counted and complete, for the style of every source."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import read_table, write_table
from coda.gallery.base import BrokenObject
from coda.gallery.download import download_plate
from coda.gallery.labels import PLACEHOLDERS, label_compounds
from coda.gallery.open import open_gallery
from coda.gallery.plates import select_plates
from coda.gallery.public_tables import fetch_table
from coda.gallery.site_filter import choose_sites
from coda.gallery.site_index import (
    index_plate,
    judge_missing,
    site_numbers,
    sites_of_plate,
    well_names,
)
from coda.simulation.plates import simulate_gallery
from hypothesis import given
from hypothesis import strategies as st
from places import REFERENCE
from s3_server import s3_server

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
TARGET2 = [f"source_{n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)]
COLUMNS = [
    "Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_Well", "Metadata_Site",
    "Metadata_JCP2022", "Metadata_InChIKey", "Metadata_pert_iname", "Metadata_pert_type", "Metadata_moa",
]  # fmt: skip
PLACE = "source_2/workspace/load_data_csv/Batch_2/1053601756"
FOLDER = "source_2/images/Batch_2/images/1053601756"
WELLS = pd.DataFrame(
    [
        ("source_2", "1053601756", "A01", "JCP2022_000001"),
        ("source_2", "1053601756", "A02", "JCP2022_033924"),
        ("source_2", "1053601756", "A03", "JCP2022_UNKNOWN"),
        ("source_2", "1053601757", "A01", "JCP2022_000009"),
        ("source_3", "1053601756", "A01", "JCP2022_000009"),
    ],
    columns=["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_JCP2022"],
)
COMPOUNDS = pd.DataFrame(
    [
        ("JCP2022_000001", "AAAAAAAAAAAAAA-UHFFFAOYSA-N", "quinidine|quinine", "trt", "a blocker"),
        ("JCP2022_000009", "BBBBBBBBBBBBBB-UHFFFAOYSA-N", "other", "trt", "b blocker"),
        ("JCP2022_033924", "IAZDPXIOMUYVGZ-UHFFFAOYSA-N", "DMSO", "negcon", None),
    ],
    columns=["Metadata_JCP2022", *COLUMNS[6:]],
)


def load_data(rows):
    """Write rows of (well, site) or (well, site, folder) as load_data with two channels."""
    table = []
    for well, site, *folder in rows:
        folder = folder[0] if folder else FOLDER
        row = {"Metadata_Plate": "1053601756", "Metadata_Well": well, "Metadata_Site": site}
        for channel in ("DNA", "Mito"):
            row[f"URL_Orig{channel}"] = (
                f"s3://cellpainting-gallery/cpg0016-jump/{folder}/{well}_{site}_{channel}.tif"
            )
        table.append(row)
    return pd.DataFrame(table)


def index(tmp_path, table, wells=WELLS, channels=("DNA", "Mito")):
    """Index the plate whose load_data is `table`."""
    write_table(table, tmp_path / PLACE / "load_data.csv.gz")
    gallery = open_gallery(str(tmp_path))
    return index_plate(
        gallery, "source_2", "Batch_2", "1053601756", wells, COMPOUNDS, list(channels)
    )


def test_index_by_hand(tmp_path, capsys):
    table = index(tmp_path, load_data([("A02", 10), ("A02", 9), ("A01", 0), ("A04", 1)]))
    assert list(table) == [*COLUMNS, "Key_DNA", "Key_Mito"]
    assert table["Metadata_Well"].tolist() == ["A01", "A02", "A02", "A04"]
    assert (
        table["Metadata_Site"].tolist() == [0, 9, 10, 1]
        and table["Metadata_Site"].dtype == np.int64
    )
    assert table["Metadata_Plate"].tolist() == ["1053601756"] * 4
    assert table["Metadata_pert_type"].tolist() == ["trt", "negcon", "negcon", "unknown"]
    assert table["Metadata_moa"].isna().tolist() == [False, True, True, True]
    assert table["Key_Mito"][0] == f"{FOLDER}/A01_0_Mito.tif"
    told = capsys.readouterr().err
    assert "1 imaged well(s) are not in the table of wells and get no compound (A04)" in told
    assert "1 well(s) are empty or of an unknown compound (A03)" in told


def test_channels_come_in_the_order_asked_for(tmp_path):
    table = index(tmp_path, load_data([("A01", 1)]), channels=["Mito", "DNA"])
    assert list(table)[-2:] == ["Key_Mito", "Key_DNA"]


def test_types_do_not_depend_on_the_plate(tmp_path):
    """A plate without any label has the columns and types of the others, also on the disk."""
    full = index(tmp_path, load_data([("A01", 1)]))
    empty = index(tmp_path, load_data([("A01", 1)]), WELLS[:0].astype(object))
    assert empty["Metadata_moa"].isna().all() and (empty["Metadata_pert_type"] == "unknown").all()
    assert full.dtypes.equals(empty.dtypes)
    for table, name in ((full, "full"), (empty, "empty")):
        write_table(table, tmp_path / f"{name}.parquet")
    both = pd.read_parquet([tmp_path / "full.parquet", tmp_path / "empty.parquet"])
    assert both["Metadata_moa"].isna().tolist() == [False, True]


def test_a_compound_that_is_not_on_the_platemap_is_counted(tmp_path, capsys):
    table = index(
        tmp_path, load_data([("A03", 1)]), WELLS.replace("JCP2022_UNKNOWN", "JCP2022_000077")
    )
    assert table["Metadata_JCP2022"].tolist() == ["JCP2022_000077"]
    assert table["Metadata_pert_type"].tolist() == ["unknown"]
    assert "1 well(s) hold no compound of the platemap (A03)" in capsys.readouterr().err


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
@pytest.mark.parametrize("listed", [True, False])
def test_a_placeholder_is_no_compound(tmp_path, capsys, placeholder, listed, monkeypatch):
    """Not even where a table of compounds holds it; so no partners, and no treated wells."""
    if listed:
        more = COMPOUNDS[:1].assign(Metadata_JCP2022=placeholder)
        monkeypatch.setitem(globals(), "COMPOUNDS", pd.concat([COMPOUNDS, more]))
    wells = WELLS.replace("JCP2022_UNKNOWN", placeholder)
    table = index(tmp_path, load_data([("A03", 1), ("A01", 1)]), wells)
    assert table["Metadata_JCP2022"].isna().tolist() == [False, True]
    assert table["Metadata_moa"].isna().tolist() == [False, True]
    assert "1 well(s) are empty or of an unknown compound (A03)" in capsys.readouterr().err


def test_a_site_twice_is_taken_from_the_later_measurement(tmp_path, capsys):
    late, early = (f"{FOLDER}__2021-0{month}-02T00_00_00-Measurement1" for month in (7, 5))
    rows = [("A01", 1, late), ("A01", 1, early), ("A01", 2, early), ("A01", 2, early)]
    table = index(tmp_path, load_data(rows))
    assert [key.rpartition("/")[0] for key in table["Key_DNA"]] == [late, early]
    assert "2 row(s) repeat a site" in capsys.readouterr().err


def test_a_site_without_a_channel_is_left_out(tmp_path, capsys):
    rows = load_data([("A01", 1), ("A01", 2)])
    rows.loc[0, "URL_OrigMito"] = None
    assert index(tmp_path, rows)["Metadata_Site"].tolist() == [2]
    assert "1 site(s) lack a channel and are left out (A01)" in capsys.readouterr().err
    rows.loc[1, "URL_OrigDNA"] = None
    with pytest.raises(UserError, match="no site with an image in every channel"):
        index(tmp_path, rows)


def test_measurements_are_told_apart_by_number_not_by_text(tmp_path):
    """Of planes or times in rows none is later; see the next test."""
    folders = [f"{FOLDER}__2021-05-02T00_00_00-Measurement {number}" for number in (2, 10, 9)]
    table = index(tmp_path, load_data([("A01", 1, folder) for folder in folders]))
    assert table["Key_DNA"].tolist() == [f"{folders[1]}/A01_1_DNA.tif"]


@pytest.mark.parametrize("column", ["Metadata_Z", "Metadata_T", None])
def test_planes_and_times_in_rows_are_refused_with_the_column_that_differs(tmp_path, column):
    rows = load_data([("A01", 1), ("A02", 1), ("A01", 1)])
    rows.loc[2, ["URL_OrigDNA", "URL_OrigMito"]] += ".t10.tif"
    if column:
        rows[column] = ["2", "2", "10"]
    differ = column or "the images alone"
    with pytest.raises(
        UserError,
        match=rf"rows 1 and 3 .* different images of A01 site 1 \(they differ in {differ}\)",
    ):
        index(tmp_path, rows)


def test_measurements_of_different_files_or_in_one_channel_only_are_refused(tmp_path):
    late, early = (f"{FOLDER}__2021-0{month}-02T00_00_00-Measurement1" for month in (7, 5))
    rows = load_data([("A01", 1, late), ("A01", 1, early)])
    for column, value in (
        ("URL_OrigMito", rows["URL_OrigMito"][0] + "_z2.tif"),
        ("URL_OrigMito", rows["URL_OrigMito"][1]),
    ):
        with pytest.raises(UserError, match="different images of A01 site 1"):
            index(tmp_path, rows.assign(**{column: [value, rows[column][1]]}))


def test_an_image_of_two_sites_or_channels_is_refused(tmp_path):
    rows = load_data([("A01", 1), ("A02", 1)])
    stack = rows.assign(URL_OrigMito=rows["URL_OrigDNA"])
    with pytest.raises(
        UserError, match="the image of A01 site 1 DNA and of A01 site 1 Mito; .*stack"
    ):
        index(tmp_path, stack)
    rows.loc[1, "URL_OrigDNA"] = rows.loc[0, "URL_OrigDNA"]
    with pytest.raises(UserError, match="the image of A01 site 1 DNA and of A02 site 1 DNA"):
        index(tmp_path, rows)


def test_rows_of_another_plate_are_left_out(tmp_path, capsys):
    rows = load_data([("A01", 1), ("A02", 1)])
    rows.loc[1, "Metadata_Plate"] = "1053601757"
    assert index(tmp_path, rows)["Metadata_Well"].tolist() == ["A01"]
    assert "1 row(s) of other plates (1053601757)" in capsys.readouterr().err
    rows["Metadata_Plate"] = "P01_1053601756"
    assert len(index(tmp_path, rows)) == 2
    assert "calls the plate P01_1053601756; it is taken for 1053601756" in capsys.readouterr().err
    rows["Metadata_Plate"] = "1053601757"
    with pytest.raises(UserError, match=r"names the plate\(s\) 1053601757, and it is not clear"):
        index(tmp_path, rows)


FORMS = {
    "as it is": lambda number: f"{number:04d}",
    "without zeros": str,
    "as a float": lambda number: f"{number}.0",
    "with spaces": lambda number: f" {number:04d} ",
}


@given(
    numbers=st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True),
    form=st.sampled_from(sorted(FORMS)),
    shuffle=st.randoms(use_true_random=False),
)
def test_one_table_for_several_plates_gives_each_its_own_rows(numbers, form, shuffle):
    """Whatever a spreadsheet did to the ids; a plate that is not in the table gets no rows of others."""
    table = pd.DataFrame(
        [
            {"Metadata_Plate": FORMS[form](number), "Metadata_Well": well, "Metadata_Site": "1"}
            | {"URL_OrigDNA": f"lab/images/{number}/{well}.tif"}
            for number in numbers
            for well in ("A01", "B02")
        ]
    )
    table = table.iloc[shuffle.sample(range(len(table)), len(table))]
    with tempfile.TemporaryDirectory() as folder:
        table.to_csv(Path(folder) / "all.csv", index=False)
        gallery = open_gallery(folder)
        found = {
            number: sites_of_plate(gallery, "lab", "b", f"{number:04d}", ["DNA"], "all.csv")
            for number in numbers
        }
        for number, sites in found.items():
            assert sorted(sites["Key_DNA"]) == [
                f"lab/images/{number}/{w}.tif" for w in ("A01", "B02")
            ]
        with pytest.raises(UserError, match="it is not clear which rows are those of 0061"):
            sites_of_plate(gallery, "lab", "b", "0061", ["DNA"], "all.csv")


def test_rows_without_a_plate_are_those_of_the_one_that_is_named(tmp_path, capsys):
    rows = load_data([("A01", 1), ("A01", 2), ("B02", 1)])
    rows.loc[1:, "Metadata_Plate"] = None
    assert len(index(tmp_path, rows)) == 3
    assert "2 row(s) without a plate are taken for rows of 1053601756" in capsys.readouterr().err
    rows.loc[2, "Metadata_Plate"] = "1053601757"
    with pytest.raises(UserError, match=r"names 2 plates .*, and none in row 2; fill in"):
        index(tmp_path, rows)


def test_two_ids_that_are_one_number_are_refused(tmp_path):
    rows = load_data([("A01", 1), ("A02", 1)])
    rows["Metadata_Plate"] = ["01053601756", "001053601756"]
    with pytest.raises(UserError, match="it is not clear which rows"):
        index(tmp_path, rows)


def test_an_empty_load_data_gives_way_to_the_next(tmp_path, capsys):
    rows = load_data([("A01", 1)])
    write_table(rows, tmp_path / PLACE / "load_data_with_illum.parquet")
    assert len(index(tmp_path, rows[:0])) == 1
    assert "load_data.csv.gz is empty" in capsys.readouterr().err
    (tmp_path / PLACE / "load_data_with_illum.parquet").unlink()
    with pytest.raises(UserError, match="has an empty load_data and no image folder"):
        index(tmp_path, rows[:0])


@given(
    sites=st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 3)), min_size=1, max_size=24, unique=True
    ),
    max_lost=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    used=st.sampled_from([None, 1, 2]),
)
def test_planned_sites_without_images_count_as_lost(sites, max_lost, used):
    """Against counting by hand: eight wells planned, as many sites each as most wells have."""
    table = pd.DataFrame(
        [("lab", "P1", f"A{well:02d}", site) for well, site in sites],
        columns=["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site"],
    )
    layout = pd.DataFrame({"Metadata_Well": [f"A{well:02d}" for well in range(1, 9)]}).assign(
        Metadata_JCP2022="JCP2022_000001"
    )
    per_well = Counter(well for well, _ in sites)
    counts = Counter(per_well.values())
    usual = max(size for size in counts if counts[size] == max(counts.values()))
    usual = min(usual, used or usual)
    lost = sum(max(0, usual - per_well[well]) for well in range(1, 9))
    if lost > max_lost * 8 * usual:
        with pytest.raises(UserError, match=f"no images of {lost} of {8 * usual} planned sites"):
            judge_missing(table, layout, max_lost, used)
    else:
        assert judge_missing(table, layout, max_lost, used) == lost
    assert (
        judge_missing(table, layout.assign(Metadata_JCP2022=None), 0.0) == 0
    )  # no compound anywhere


def test_wells_are_written_one_way(tmp_path):
    rows = load_data([("a1", 1), ("A002", 1), (" A03", 1)])
    table = index(tmp_path, rows, WELLS.assign(Metadata_Well=["A1", "A02", "a03", "A01", "A01"]))
    assert table["Metadata_Well"].tolist() == ["A01", "A02", "A03"]
    assert table["Metadata_JCP2022"].tolist()[:2] == WELLS["Metadata_JCP2022"].tolist()[:2]
    assert well_names(pd.Series(["AF48", "aa7", "P24"]), "x").tolist() == ["AF48", "AA07", "P24"]


@pytest.mark.parametrize("well", ["", "1A", "A", "A00", "ABC1", "A100", "../A01", None])
def test_what_is_no_well_is_named(well):
    with pytest.raises(UserError, match="Row 2 of the plate"):
        well_names(pd.Series(["A01", well]), "the plate")


@pytest.mark.parametrize("site", ["", "x", "1.5", "-1", None])
def test_what_is_no_site_is_named(site):
    with pytest.raises(UserError, match="Row 2 of the plate"):
        site_numbers(pd.Series(["1", site]), "the plate")
    assert site_numbers(pd.Series(["01", "2.0", "0"]), "the plate").tolist() == [1, 2, 0]


def test_a_well_with_two_compounds_is_refused(tmp_path):
    twice = pd.concat([WELLS, WELLS[:1].assign(Metadata_JCP2022="JCP2022_000009")])
    with pytest.raises(UserError, match="gives well A01 of source_2 1053601756 two compounds"):
        index(tmp_path, load_data([("A01", 1)]), twice)
    assert len(index(tmp_path, load_data([("A01", 1)]), pd.concat([WELLS, WELLS]))) == 1


def test_a_plate_that_is_not_there_is_named(tmp_path):
    gallery = open_gallery(str(tmp_path))
    with pytest.raises(UserError, match="source_2 1053601756 has neither a load_data nor an image"):
        index_plate(gallery, "source_2", "Batch_2", "1053601756", WELLS, COMPOUNDS, ["DNA"])


def test_an_empty_load_data_falls_back_on_the_latest_folder(tmp_path, capsys):
    for folder in (FOLDER, f"{FOLDER}__2021-05-02T00_00_00-Measurement1"):
        for channel in (1, 5):
            file = tmp_path / folder / f"1053601756_A01_T0001F003L01A01Z01C{channel:02d}.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    table = index(tmp_path, load_data([("A01", 1)])[:0])
    assert table["Metadata_Site"].tolist() == [3]
    assert table["Key_Mito"][0].startswith(f"{FOLDER}__2021") and table["Key_Mito"][0].endswith(
        "C05.tif"
    )
    told = capsys.readouterr().err
    assert "is empty" in told and "has no load_data" in told and "2 image folders" in told


@pytest.fixture
def chosen_from(tmp_path):
    rows = [(well, site) for well in ("A01", "A02", "A04") for site in (10, 9, 2, 1)]
    return index(tmp_path, load_data(rows))


@pytest.mark.parametrize(
    ("choice", "wells"),
    [
        ({}, {"A01", "A02", "A04"}),
        ({"wells": ["a1", "B01"]}, {"A01"}),
        ({"compounds": ["JCP2022_033924"]}, {"A02"}),
        ({"compounds": ["Quinine"]}, {"A01", "A02"}),
        ({"compounds": ["quinidine", "dmso"]}, {"A01", "A02"}),
        ({"moas": ["a blocker", "b blocker"]}, {"A01", "A02"}),
        ({"moas": ["a blocker"], "labelled": True}, {"A01"}),
        ({"moas": ["a blocker"], "wells": ["A01"]}, {"A01"}),
        ({"labelled": True}, {"A01"}),
        ({"wells": ["A01", "A04"], "labelled": True}, {"A01"}),
    ],
)
def test_choices(chosen_from, choice, wells):
    chosen = choose_sites(chosen_from, **choice)
    assert set(chosen["Metadata_Well"]) == wells
    assert len(chosen) == 4 * len(wells)
    assert chosen.index.tolist() == list(range(len(chosen)))


def test_the_lowest_sites_are_chosen(chosen_from):
    shuffled = chosen_from.sample(frac=1, random_state=1)
    chosen = choose_sites(shuffled, sites_per_well=3)
    assert chosen["Metadata_Site"].tolist() == [1, 2, 9] * 3
    assert len(choose_sites(chosen_from, sites_per_well=99)) == 12


def test_an_empty_choice_is_named(chosen_from):
    with pytest.raises(UserError, match="leaves nothing of source_2 1053601756"):
        choose_sites(chosen_from, wells=["P24"])
    with pytest.raises(UserError, match="leaves nothing"):  # but the negative controls
        choose_sites(chosen_from, moas=["c blocker"])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A tiny plate of every source (two of source_3, one with a space), and its tables."""
    folder = tmp_path_factory.mktemp("simulated")
    settings = {
        "sources": {source: {"batches": 1, "plates_per_batch": 1} for source in TARGET2},
        "image_size": 8,
        "binning": 2.0,
        "moas": 1,
        "compounds_per_moa": 2,
        "wells_per_compound": 1,
        "dmso_wells": 1,
        "unlabelled_compounds": 1,
        "sites_per_well": 2,
        "effect": [1.6, 3.2],
        "nuclei": False,
    }
    settings["sources"]["source_3"]["batches"] = 2
    simulate_gallery(folder, settings, seed=5)
    files = {
        "plate": "plate.csv.gz",
        "well": "well.csv.gz",
        "compound": "compound.csv.gz",
        "platemap": "JUMP-Target-2_compound_platemap.tsv",
        "target_compounds": "JUMP-Target-2_compound_metadata.tsv",
        "drugs": "repurposing_drugs_20200324.txt",
    }
    tables = {}
    for name, file in files.items():
        fetch_table(name, str(folder / "tables" / file), folder / f"{name}.parquet")
        tables[name] = read_table(folder / f"{name}.parquet")
    labels = [tables[name] for name in ("compound", "platemap", "target_compounds", "drugs")]
    compounds = label_compounds(*labels)
    plates = select_plates(tables["plate"], "TARGET2", {source: {} for source in TARGET2})
    return folder / "cellpainting-gallery" / "cpg0016-jump", plates, tables["well"], compounds


@pytest.fixture(scope="module")
def endpoint(simulated):
    """The simulated gallery on an S3 server."""
    with s3_server(simulated[0].parents[1]) as address:
        yield address


def served(endpoint):
    """Open the simulated gallery on the server."""
    return open_gallery("s3://cellpainting-gallery/cpg0016-jump", endpoint)


@pytest.mark.parametrize("source", TARGET2)
def test_every_source_is_indexed_and_fetched(simulated, endpoint, source, tmp_path, capsys):
    """Indexed from load_data and from its files alike; fetched over S3, byte for byte."""
    root, plates, wells, compounds = simulated
    gallery = open_gallery(str(root))
    plates = plates[plates["Metadata_Source"] == source]
    assert len(plates) == (2 if source == "source_3" else 1)
    for row in plates.itertuples():
        names = (source, row.Metadata_Batch, row.Metadata_Plate)
        table = index_plate(gallery, *names, wells, compounds, CHANNELS)
        assert "load_data" not in capsys.readouterr().err
        keys = [f"Key_{channel}" for channel in CHANNELS]
        layout = wells[wells["Metadata_Plate"] == row.Metadata_Plate]
        joined = table.drop_duplicates("Metadata_Well").set_index("Metadata_Well")
        assert joined["Metadata_JCP2022"].to_dict() == dict(
            zip(layout["Metadata_Well"], layout["Metadata_JCP2022"], strict=True)
        )
        # Two labelled compounds, one alone with its mechanism in two wells, a strong control, one
        # without a mechanism, and DMSO; two sites each.
        assert table["Metadata_pert_type"].value_counts().to_dict() == {
            "trt": 10,
            "negcon": 2,
            "poscon": 2,
        }
        assert table["Metadata_moa"].notna().sum() == 4
        first = 0 if source in ("source_7", "source_13") else 1
        assert set(table["Metadata_Site"]) == {first, first + 1}
        assert pd.unique(table[keys].to_numpy().ravel()).size == len(table) * 5
        assert all((root / key).is_file() for key in table[keys].to_numpy().ravel())
        assert not any("thumb" in key for key in table["Key_DNA"])

        plate = tmp_path / row.Metadata_Plate
        manifest = tmp_path / "manifest.parquet"
        download_plate(served(endpoint), table, CHANNELS, plate, manifest, 0.0)
        fetched = read_table(manifest)
        assert len(fetched) == len(table) * 5 and set(fetched["status"]) == {"ok"}
        for image in fetched.itertuples():
            assert (plate / image.file).read_bytes() == (root / image.key).read_bytes()

        hidden = (root / source / "workspace").rename(root / source / "hidden")
        try:
            listed = index_plate(gallery, *names, wells, compounds, CHANNELS)
        finally:
            hidden.rename(root / source / "workspace")
        assert "has no load_data" in capsys.readouterr().err
        pd.testing.assert_frame_equal(table, listed)


def test_a_bucket_gives_the_index_of_the_folder(simulated, endpoint):
    """Over S3, also a plate whose folder has a space in its name."""
    root, plates, wells, compounds = simulated
    plates = plates[plates["Metadata_Source"] == "source_3"]
    folder = open_gallery(str(root))
    bucket, keys = served(endpoint), set()
    for row in plates.itertuples():
        names = ("source_3", row.Metadata_Batch, row.Metadata_Plate)
        from_bucket = index_plate(bucket, *names, wells, compounds, ["DNA"])
        from_folder = index_plate(folder, *names, wells, compounds, ["DNA"])
        pd.testing.assert_frame_equal(from_bucket, from_folder)
        keys.add(from_bucket["Key_DNA"][0])
    assert all(bucket.read(key) == folder.read(key) for key in keys)
    assert any("-Measurement 1/" in key for key in keys)


def test_a_listing_that_fails_is_told(tmp_path, monkeypatch):
    gallery = open_gallery(str(tmp_path))

    def fail(prefix):
        raise BrokenObject("connection reset, after 6 attempts")

    monkeypatch.setattr(gallery, "entries", fail)
    with pytest.raises(UserError, match="did not list the plate source_2 1053601756: connection"):
        index_plate(gallery, "source_2", "Batch_2", "1053601756", WELLS, COMPOUNDS, ["DNA"])


def test_a_real_well_table_joins_a_real_plate(tmp_path):
    """All 384 wells of a real plate of source_4, its load_data written in the real style."""
    if not REFERENCE.exists():
        pytest.skip(f"the public tables are not in {REFERENCE}")
    wells = read_table(REFERENCE / "metadata/well_target2_real_8sources.csv.gz")
    source, plate = "source_2", "1053599503"
    layout = wells[wells["Metadata_Plate"] == plate]
    layout_wells = layout["Metadata_Well"].tolist()
    rows = load_data([(well, site) for well in layout_wells for site in range(1, 7)])
    write_table(
        rows.assign(Metadata_Plate=plate),
        tmp_path / PLACE.replace("1053601756", plate) / "load_data.csv",
    )
    compounds = COMPOUNDS[2:]
    table = index_plate(
        open_gallery(str(tmp_path)), source, "Batch_2", plate, wells, compounds, ["DNA"]
    )
    assert len(table) == 6 * len(layout)
    joined = table.drop_duplicates("Metadata_Well").set_index("Metadata_Well")["Metadata_JCP2022"]
    assert joined.to_dict() == dict(zip(layout_wells, layout["Metadata_JCP2022"], strict=True))
    assert joined["P03"] == "JCP2022_033924"  # this source has DMSO there
    assert (table["Metadata_pert_type"] == "negcon").sum() == 6 * (
        layout["Metadata_JCP2022"] == "JCP2022_033924"
    ).sum()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("AZ99", 1), "has the well AZ99, but the largest plates end with AF48"),
        (("A49", 1), "has the well A49"),
        (("A01", 1000), "the site '1000'; a site is a whole number from 0 to 999"),
        (("A01", "9" * 20), "a whole number from 0 to 999"),
    ],
)
def test_wells_and_sites_that_no_plate_has_are_refused_at_once(tmp_path, row, words):
    with pytest.raises(UserError, match=words):
        index(tmp_path, load_data([row]))
