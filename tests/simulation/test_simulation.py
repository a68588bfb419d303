"""The simulated gallery as a whole: layout on disk, tables, independence of how it was made."""

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.errors import UserError
from coda.simulation.names import file_names, plate_names, plates_of, well_names
from coda.simulation.plates import simulate_gallery
from coda.simulation.world import DMSO
from places import REFERENCE

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
SETTINGS = {
    "sources": {
        "source_3": {"batches": 2, "plates_per_batch": 1},
        "source_5": {"batches": 1, "plates_per_batch": 1},
        "source_8": {"batches": 1, "plates_per_batch": 1},
    },
    "image_size": 32,
    "binning": 2.0,
    "moas": 2,
    "compounds_per_moa": 2,
    "wells_per_compound": 1,
    "dmso_wells": 2,
    "unlabelled_compounds": 2,
    "sites_per_well": 2,
    "effect": [1.6, 3.2],
    "nuclei": True,
}
WELLS = 2 * 2 + 2 + 1 + 2 + 2  # labelled, lone under two sample ids, poscon_cp, unlabelled, DMSO


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    simulate_gallery(folder, SETTINGS, seed=3, processes=2)
    return folder


@pytest.fixture(scope="module")
def all_sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("all_sources")
    sources = {
        f"source_{number}": {"batches": 1, "plates_per_batch": 1}
        for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    }
    small = {"sources": sources, "sites_per_well": 1, "moas": 1, "compounds_per_moa": 1}
    simulate_gallery(folder, SETTINGS | small, seed=3)
    return folder


def root_of(folder: Path) -> Path:
    return folder / "cellpainting-gallery" / "cpg0016-jump"


def load_data(root: Path, source: str) -> pd.DataFrame:
    """All load_data of a source with a relative key per channel, read without the library."""
    parts = []
    for path in sorted(root.glob(f"{source}/workspace/load_data_csv/*/*/load_data*")):
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
        assert set(table["Metadata_Batch"]) == {path.parts[-3]}
        assert set(table["Metadata_Plate"]) == {path.parts[-2]}
        for channel in CHANNELS:
            if f"URL_Orig{channel}" in table:
                whole = table[f"URL_Orig{channel}"]
            else:
                start = table[f"PathName_Orig{channel}"].str.rstrip("/")
                whole = start + "/" + table[f"FileName_Orig{channel}"]
            table[f"Key_{channel}"] = whole.str.split("/cpg0016-jump/").str[1]
        parts.append(table)
    return pd.concat(parts)


def test_every_listed_image_exists_and_every_image_is_listed(all_sources):
    root = root_of(all_sources)
    for source in (f"source_{number}" for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)):
        table = load_data(root, source)
        listed = {key for channel in CHANNELS for key in table[f"Key_{channel}"]}
        found = {str(path.relative_to(root)) for path in root.glob(f"{source}/images/**/*.tif*")}
        thumbnails = {key for key in found if "_thumb" in key}
        assert listed == found - thumbnails
        assert len(listed) == 5 * len(table)
        assert len(thumbnails) == (len(listed) if source == "source_8" else 0)
        first_site = "0" if source in ("source_7", "source_13") else "1"
        assert set(table["Metadata_Site"]) == {first_site}
        image = tifffile.imread(root / sorted(listed)[0])
        assert image.dtype == np.uint16 and image.shape == (32, 32)


def test_demo_sources_use_the_three_styles_of_load_data(gallery):
    found = {
        source: {path.name for path in root_of(gallery).glob(f"{source}/**/load_data*.*")}
        for source in SETTINGS["sources"]
    }
    assert found == {
        "source_3": {"load_data.csv"},
        "source_5": {"load_data.csv.gz"},
        "source_8": {"load_data_with_illum.parquet"},
    }


def test_load_data_columns_are_those_of_the_gallery(all_sources):
    if not REFERENCE.exists():
        pytest.skip("needs the reference tables in ../shared/data")
    schemas = REFERENCE / "schemas"
    real = pd.read_parquet(schemas / "load_data_with_illum_source_4_BR00126114_2rows.parquet")
    path = next(root_of(all_sources).glob("source_8/**/load_data_with_illum.parquet"))
    ours = pd.read_parquet(path)
    assert set(ours) == set(real)
    assert ours.map(lambda cell: isinstance(cell, str)).all(axis=None)
    real = pd.read_csv(schemas / "load_data_source_4_BR00117035_PathName_style.head.csv", dtype=str)
    path = next(root_of(all_sources).glob("source_5/**/load_data.csv.gz"))
    assert list(pd.read_csv(path, dtype=str)) == list(real)
    real = pd.read_csv(schemas / "load_data_source_4_BR00117035_URL_style_current.csv", dtype=str)
    path = next(root_of(all_sources).glob("source_3/**/load_data.csv"))
    assert set(pd.read_csv(path, dtype=str)) <= set(real)


def skeleton(key: str, plate: str) -> str:
    """A key below .../images/<batch>/images/ with digits, GUIDs and the plate's name blanked."""
    key = key.split("/images/", 1)[1].split("/images/", 1)[1].replace(plate, "{plate}")
    key = re.sub(r"(?<=_w\d)[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", "{guid}", key)
    return re.sub(r"\d", "9", key)


def test_keys_have_the_form_of_real_keys(all_sources, gallery):
    path = REFERENCE / "schemas" / "keys_per_source.csv"
    if not path.exists():
        pytest.skip("needs the reference tables in ../shared/data")
    ours = {}
    for folder in (all_sources, gallery):
        for source in {path.name for path in root_of(folder).iterdir()}:
            table = load_data(root_of(folder), source)
            plates, keys = table["Metadata_Plate"], table["Key_DNA"]
            names = {skeleton(key, plate) for key, plate in zip(keys, plates, strict=True)}
            # Site numbers of two digits or rows beyond Z do not matter here.
            ours.setdefault(source, set()).update(re.sub(r"_A?[A-P]99_", "_A99_", n) for n in names)
    real = pd.read_csv(path).query("source not in ('source_1', 'source_15')")
    for source, key in zip(real["source"], real["key"], strict=True):
        folder = key.split("/images/")[2].split("/")[0]
        plate = re.sub(r"^P\d+_", "", folder.split("__")[0])
        assert skeleton(key, plate) in ours[source], source


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".gz", ".parquet")
    }


def test_images_do_not_depend_on_processes_or_on_other_plates(gallery, tmp_path):
    both = digests(gallery)
    alone = SETTINGS | {"sources": {"source_3": {"batches": 1, "plates_per_batch": 1}}}
    simulate_gallery(tmp_path, alone, seed=3, processes=1)
    one = {name: value for name, value in digests(tmp_path).items() if "cpg0016-jump" in name}
    assert len(one) == WELLS * 2 * 5 + 5 + WELLS * 2 + 1  # images, illum, nuclei, load_data
    assert all(both[name] == value for name, value in one.items())
    for name in ("JUMP-Target-2_compound_metadata.tsv", "JUMP-Target-2_compound_platemap.tsv"):
        assert both[f"tables/{name}"] == digests(tmp_path)[f"tables/{name}"]


def test_another_seed_gives_another_world(gallery, tmp_path):
    alone = SETTINGS | {"sources": {"source_8": {"batches": 1, "plates_per_batch": 1}}}
    simulate_gallery(tmp_path, alone, seed=4)
    platemap = Path("tables", "JUMP-Target-2_compound_platemap.tsv")
    assert (tmp_path / platemap).read_text() != (gallery / platemap).read_text()


def test_label_rule_finds_the_planned_classes(gallery):
    """The rule of the protocol, written out here in plain pandas, on the written tables."""
    tables = gallery / "tables"
    metadata = pd.read_csv(
        tables / "JUMP-Target-2_compound_metadata.tsv", sep="\t", keep_default_na=False
    )
    platemap = pd.read_csv(tables / "JUMP-Target-2_compound_platemap.tsv", sep="\t")
    drugs = pd.read_csv(
        tables / "repurposing_drugs_20200324.txt", sep="\t", skiprows=9, encoding="latin-1"
    )
    placed = metadata[metadata["broad_sample"].isin(platemap["broad_sample"])]
    trials = placed[placed["control_type"] != "poscon_cp"].copy()
    trials["key"] = trials["pert_iname"].str.lower()
    drugs["key"] = drugs["pert_iname"].str.lower()
    labelled = trials.merge(drugs[["key", "moa"]], on="key").dropna(subset="moa")
    labelled = labelled.drop_duplicates("key")
    counts = labelled["moa"].value_counts()
    assert counts["simulated lone mechanism"] == 1
    kept = counts[counts >= 2]
    assert dict(kept) == {"simulated mechanism 01": 2, "simulated mechanism 02": 2}
    # The traps are there: spelling differs, a lone compound has two samples, a control has a MoA.
    assert not set(labelled["pert_iname"]) <= set(drugs["pert_iname"])
    assert trials["pert_iname"].duplicated().any()
    controls = metadata[metadata["control_type"] == "poscon_cp"]
    assert controls["pert_iname"].str.lower().isin(drugs.dropna(subset="moa")["key"]).all()


def test_hub_files_are_latin1_with_nine_comments_and_windows_line_ends(gallery):
    for name in ("drugs", "samples"):
        data = (gallery / "tables" / f"repurposing_{name}_20200324.txt").read_bytes()
        lines = data.split(b"\r\n")
        assert [line.startswith(b"!") for line in lines[:10]] == [True] * 9 + [False]
        assert b"\n" not in b"".join(lines)
    with pytest.raises(UnicodeDecodeError):
        (gallery / "tables" / "repurposing_drugs_20200324.txt").read_bytes().decode("utf-8")


def test_tables_have_the_columns_of_the_public_ones(gallery):
    if not REFERENCE.exists():
        pytest.skip("needs the reference tables in ../shared/data")
    tables, public = gallery / "tables", REFERENCE / "metadata"
    for name in ("metadata", "platemap"):
        file = f"JUMP-Target-2_compound_{name}.tsv"
        assert list(pd.read_csv(tables / file, sep="\t")) == list(
            pd.read_csv(public / file, sep="\t")
        )
    assert list(pd.read_csv(tables / "plate.csv.gz")) == list(pd.read_csv(public / "plate.csv.gz"))
    for name in ("drugs_20200324.txt", "samples_20200324.txt"):
        path = public / f"repurposing_{name}"
        if path.exists():
            header = path.read_bytes().split(b"\r\n")[9]
        else:
            header = gzip.decompress(Path(f"{path}.gz").read_bytes()).split(b"\r\n")[9]
        assert (tables / f"repurposing_{name}").read_bytes().split(b"\r\n")[9] == header


def test_wells_agree_with_plates_platemap_and_images(gallery):
    tables = gallery / "tables"
    plates = pd.read_csv(tables / "plate.csv.gz", dtype=str)
    wells = pd.read_csv(tables / "well.csv.gz", dtype=str)
    compounds = pd.read_csv(tables / "compound.csv.gz", dtype=str)
    target2 = plates[plates["Metadata_PlateType"] == "TARGET2"]
    assert set(wells["Metadata_Plate"]) == set(target2["Metadata_Plate"])
    assert (plates["Metadata_PlateType"] == "COMPOUND").any()
    assert set(wells["Metadata_JCP2022"]) == set(compounds["Metadata_JCP2022"])
    assert compounds["Metadata_InChIKey"].str.fullmatch(r"[A-Z]{14}-[A-Z]{10}-[A-Z]").all()
    assert compounds["Metadata_InChIKey"].is_unique
    assert (wells["Metadata_JCP2022"] == DMSO).sum() == 2 * len(target2)
    platemap = pd.read_csv(tables / "JUMP-Target-2_compound_platemap.tsv", sep="\t", dtype=str)
    for plate, group in wells.groupby("Metadata_Plate"):
        assert list(group["Metadata_Well"]) == list(platemap["well_position"]), plate
    images = load_data(root_of(gallery), "source_3")
    assert set(images["Metadata_Well"]) == set(platemap["well_position"])


def test_nuclei_lie_in_the_image_and_are_grouped_as_the_source_does(all_sources):
    root = root_of(all_sources)
    for source, group in (
        ("source_3", r"JCPQC90101-[A-P]\d\d"),
        ("source_4", r"BR00901001-[A-P]\d\d-1"),
        ("source_10", r"[A-P]\d\d"),
        ("source_7", "CP1-SC9-01"),
    ):
        paths = list(root.glob(f"{source}/workspace/analysis/*/*/analysis/*/Nuclei.csv"))
        assert all(re.fullmatch(group, path.parent.name) for path in paths)
        nuclei = pd.concat(pd.read_csv(path) for path in paths)
        images = pd.concat(pd.read_csv(path.with_name("Image.csv")) for path in paths)
        assert sorted(images["ImageNumber"]) == list(range(1, len(images) + 1))
        assert nuclei[["Location_Center_X", "Location_Center_Y"]].stack().between(0, 31).all()
        assert not any(name.startswith("Metadata_") for name in nuclei)


def test_illumination_functions_are_float32_of_mean_one(gallery):
    table = pd.read_parquet(next(root_of(gallery).glob("source_8/**/load_data_with_illum.parquet")))
    for channel in CHANNELS:
        folder = table[f"PathName_Illum{channel}"].iloc[0].split("/cpg0016-jump/")[1]
        field = np.load(root_of(gallery) / folder / table[f"FileName_Illum{channel}"].iloc[0])
        assert field.dtype == np.float32 and field.shape == (32, 32)
        assert field.mean() == pytest.approx(1, abs=1e-4)


def test_microscope_table_tells_the_pixel_size_of_the_images(gallery):
    table = pd.read_csv(gallery / "tables" / "microscope_config.csv").set_index("Metadata_Source")
    sizes = table["Metadata_Pixel_Size_Microns"]
    assert sizes["source_5"] == pytest.approx(2 * 0.64974)
    assert sizes["source_8"] == pytest.approx(2 * 0.7032)


def test_uncompressed_files_of_a_source_have_one_size(all_sources):
    """Sizes must not tell the compound where the format does not make them."""
    for source in ("source_2", "source_5", "source_6", "source_7", "source_8", "source_10"):
        sizes = {
            path.stat().st_size
            for path in root_of(all_sources).glob(f"{source}/images/**/*.tif")
            if "_thumb" not in path.name
        }
        assert len(sizes) == 1, source


def test_compression_is_that_of_the_instrument(all_sources):
    kinds = {
        "source_3": "LZW",
        "source_5": "NONE",
        "source_8": "NONE",
        "source_11": "ADOBE_DEFLATE",
    }
    for source, kind in kinds.items():
        path = next(root_of(all_sources).glob(f"{source}/images/**/*.tif*"))
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].compression.name == kind


def test_a_1536_well_plate_has_rows_beyond_z():
    wells = well_names((32, 48))
    assert len(set(wells)) == 1536
    assert wells[0] == "A01" and wells[-1] == "AF48" and wells[26 * 48] == "AA01"
    plate = plate_names("source_9", 1, 1)
    assert file_names(plate, "AF48", 3, 0)["DNA"] == "r32c48f04p01-ch4sk1fk1fl1.tiff"


def test_plates_keep_their_names_and_names_are_unique():
    every = {f"source_{number}": number for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)}
    few = plates_of({source: {"batches": 2, "plates_per_batch": 1} for source in every})
    many = plates_of({source: {"batches": 14, "plates_per_batch": 3} for source in every})
    assert set(few) <= set(many)
    assert len({plate.plate for plate in many}) == len(many)
    assert len({(plate.source, plate.batch) for plate in many}) == 14 * len(every)
    if REFERENCE.exists():
        real = pd.read_csv(REFERENCE / "metadata" / "plate.csv.gz", dtype=str)
        assert not {plate.plate for plate in many} & set(real["Metadata_Plate"])


def test_unknown_source_and_full_plate_are_told(tmp_path):
    unknown = SETTINGS | {"sources": {"source_1": {"batches": 1, "plates_per_batch": 1}}}
    with pytest.raises(UserError, match="source_1"):
        simulate_gallery(tmp_path, unknown, seed=1)
    with pytest.raises(UserError, match="wells_per_compound"):
        simulate_gallery(tmp_path, SETTINGS | {"wells_per_compound": 60}, seed=1)
