"""What a plan says is what a download would bring, and no image is read for it."""

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.local import LocalGallery
from coda.gallery.open import open_gallery
from coda.gallery.plan import Wanted, format_plan, plan_download
from coda.gallery.s3 import S3Gallery
from faulty_server import faulty_server
from s3_server import s3_server

CHANNELS = ["DNA", "ER"]
SIZES = {("source_2", "P1"): 100, ("source_2", "P2"): 300, ("source_3", "0123"): 2000}


@pytest.fixture
def gallery_folder(tmp_path):
    """Three plates of two wells and two sites; one object is absent, one is a thumbnail."""
    for (source, plate), size in SIZES.items():
        folder = tmp_path / "bucket/jump" / source / "images/B1/images" / f"{plate} Measurement 1"
        folder.mkdir(parents=True)
        for well in ("A01", "B02"):
            for site in (1, 2):
                for channel in CHANNELS:
                    (folder / f"{well}_{site}_{channel}.tiff").write_bytes(bytes(size))
        (folder / "A01_thumb.tiff").write_bytes(bytes(9999))
    (folder / "A01_1_ER.tiff").unlink()
    return tmp_path


def plates_and_indexes():
    indexes = []
    for source, plate in SIZES:
        rows = []
        for well in ("A01", "B02"):
            for site in (1, 2):
                row = {
                    "Metadata_Source": source,
                    "Metadata_Plate": plate,
                    "Metadata_Well": well,
                    "Metadata_Site": site,
                }
                base = f"{source}/images/B1/images/{plate} Measurement 1/{well}_{site}"
                rows.append(
                    row | {f"Key_{channel}": f"{base}_{channel}.tiff" for channel in CHANNELS}
                )
        indexes.append(pd.DataFrame(rows))
    plates = pd.DataFrame(list(SIZES), columns=["Metadata_Source", "Metadata_Plate"])
    return plates, indexes


def check(plan):
    plan = plan.set_index("Metadata_Source")
    assert list(plan.index) == ["source_2", "source_3", "all"]
    counts = ["plates", "wells", "sites", "objects", "absent", "bytes"]
    sizes = ["function_bytes", "absent_functions", "nuclei_bytes", "crop_bytes", "peak_bytes"]
    assert list(plan.columns) == counts + sizes
    assert plan.loc["source_2"].tolist() == [2, 4, 8, 16, 0, 3200, 0, 0, 0, 80, 3280]
    assert plan.loc["source_3", ["objects", "absent", "bytes", "peak_bytes"]].tolist() == [
        7,
        1,
        14000,
        14040,
    ]
    assert plan.loc["all"].tolist() == [3, 6, 12, 23, 1, 17200, 0, 0, 0, 120, 16520]


def test_plan_of_a_folder(gallery_folder):
    plates, indexes = plates_and_indexes()
    check(
        plan_download(
            [LocalGallery(str(gallery_folder / "bucket/jump"))] * 3,
            plates,
            indexes,
            Wanted(CHANNELS, crop_bytes=10, plates_in_flight=2),
        )
    )


def test_plan_of_a_bucket_only_lists(gallery_folder):
    plates, indexes = plates_and_indexes()
    with s3_server(gallery_folder) as endpoint, faulty_server(endpoint) as server:
        gallery = open_gallery("s3://bucket/jump", server.endpoint)
        check(
            plan_download(
                [gallery] * 3, plates, indexes, Wanted(CHANNELS, crop_bytes=10, plates_in_flight=2)
            )
        )
    assert server.requests and all("list-type=2" in request.key for request in server.requests)


def test_a_folder_that_is_not_listed_is_one_sentence(gallery_folder):
    plates, indexes = plates_and_indexes()
    with s3_server(gallery_folder) as endpoint, faulty_server(endpoint) as server:
        server.faults.always = {
            "list-type=2": "slow_down"
        }  # objects are answered, so it is not down
        gallery = S3Gallery("s3://bucket/jump", server.endpoint, attempts=2, backoff=0.01)
        with pytest.raises(UserError, match="did not list the plate source_2 P1: 503 SlowDown"):
            plan_download([gallery] * 3, plates, indexes, Wanted(CHANNELS), workers=1)


def test_where_images_stay_the_peak_is_all_of_them(gallery_folder):
    plates, indexes = plates_and_indexes()
    galleries = [LocalGallery(str(gallery_folder / "bucket/jump"))] * 3
    plan = plan_download(galleries, plates, indexes, Wanted(CHANNELS))
    assert plan["peak_bytes"].tolist() == plan["bytes"].tolist()


def test_the_table_for_a_terminal_has_a_line_a_source(gallery_folder):
    plates, indexes = plates_and_indexes()
    plan = plan_download(
        [LocalGallery(str(gallery_folder / "bucket/jump"))] * 3,
        plates,
        indexes,
        Wanted(CHANNELS, plates_in_flight=1),
    )
    lines = format_plan(plan.assign(bytes=plan["bytes"] * 10**9)).splitlines()
    assert [line.split()[0] for line in lines] == ["source", "source_2", "source_3", "all", "The"]
    assert "17,200.0" in lines[-2] and "without the crops" in lines[-1]
    assert "nuclei" not in lines[0] and "functions" not in lines[0]
    # Means of 200, 2,000 and 748 bytes; the sizes above are multiplied by 10^9.
    assert "MB an image" in lines[0] and " 200000.00" in lines[1]


def test_functions_and_nuclei_of_the_gallery_count_where_they_are_wanted(gallery_folder):
    plates, indexes = plates_and_indexes()
    indexes = [index.assign(Metadata_Batch="B1") for index in indexes]
    root = gallery_folder / "bucket/jump/source_2"
    sizes = {
        "images/B1/illum/P1/P1_IllumDNA.npy": 7,
        "images/B1/illum/P1/P1_IllumER.npy": 8,
        "images/B1/illum/P1/P1_IllumMito.npy": 1000,  # not a channel of this run
        "workspace/analysis/B1/P2/analysis/P2-A01-1/Nuclei.csv": 50,
        "workspace/analysis/B1/P2/analysis/P2-A01-1/Image.csv": 1000,  # the folder tells the site
        "workspace/analysis/B1/P2/analysis/P2-B02/Nuclei.csv": 60,
        "workspace/analysis/B1/P2/analysis/P2-B02/Image.csv": 5,
        "workspace/analysis/B1/P2/analysis/P2-C03-1/Nuclei.csv": 1000,  # a well left out
    }
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(size))
    galleries = [LocalGallery(str(gallery_folder / "bucket/jump"))] * 3
    wanted = Wanted(CHANNELS, functions=True, nuclei=True, plates_in_flight=1)
    plan = plan_download(galleries, plates, indexes, wanted).set_index("Metadata_Source")
    assert plan.loc["source_2", ["function_bytes", "nuclei_bytes"]].tolist() == [15, 115]
    assert plan.loc["source_2", "peak_bytes"] == 2400 + 15
    assert plan.loc["source_3", ["function_bytes", "nuclei_bytes"]].tolist() == [0, 0]
    assert plan["crop_bytes"].isna().all()


def test_functions_that_are_absent_are_told_before_anything_is_fetched(gallery_folder, capsys):
    """Of three plates in two channels one function is there."""
    plates, indexes = plates_and_indexes()
    indexes = [index.assign(Metadata_Batch="B1") for index in indexes]
    there = gallery_folder / "bucket/jump/source_2/images/B1/illum/P1/P1_IllumDNA.npy"
    there.parent.mkdir(parents=True)
    there.write_bytes(bytes(7))
    galleries = [LocalGallery(str(gallery_folder / "bucket/jump"))] * 3
    plan = plan_download(galleries, plates, indexes, Wanted(CHANNELS, functions=True))
    assert plan["absent_functions"].tolist() == [3, 2, 5]
    told = capsys.readouterr().err
    assert "source_2 P1: the gallery has no illumination function of ER\n" in told
    assert "source_3 0123: the gallery has no illumination function of DNA, ER\n" in told
    text = format_plan(plan)
    assert "functions absent" in text and "crops.illumination is gallery" in text
    plan = plan_download(galleries, plates, indexes, Wanted(CHANNELS))
    assert plan["absent_functions"].sum() == 0 and "absent (" not in format_plan(plan)
