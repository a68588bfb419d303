"""The gallery's illumination functions: fetched, checked, and a clear word where there are none."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.illumination_files import download_illumination, read_functions
from coda.gallery.local import LocalGallery
from coda.gallery.open import open_gallery
from s3_server import s3_server

INDEX = pd.DataFrame(
    {
        "Metadata_Source": ["source_8"],
        "Metadata_Batch": ["J1"],
        "Metadata_Plate": ["A117"],
        "Metadata_Well": ["A01"],
        "Metadata_Site": [1],
    }
)
CHANNELS = ["DNA", "ER", "Mito"]


@pytest.fixture
def root(tmp_path):
    """A gallery in which A117 has functions of all channels, with bright field beside them."""
    folder = tmp_path / "bucket/source_8/images/J1/illum/A117"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for channel in (*CHANNELS, "BrightfieldDNA"):
        np.save(folder / f"A117_Illum{channel}.npy", rng.uniform(1, 2, (20, 30)).astype("f4"))
    return tmp_path / "bucket"


def outputs(folder):
    return [folder / f"out/{channel}.npy" for channel in CHANNELS]


@pytest.mark.parametrize("kind", ["folder", "server"])
def test_each_channel_gets_its_function(root, tmp_path, kind):
    paths = outputs(tmp_path)
    if kind == "folder":
        download_illumination(LocalGallery(str(root)), INDEX, CHANNELS, paths)
    else:
        with s3_server(tmp_path) as endpoint:
            gallery = open_gallery("s3://bucket", endpoint, attempts=2, timeout=5)
            download_illumination(gallery, INDEX, CHANNELS, paths)
    found = read_functions(paths, (20, 30))
    for channel, function in zip(CHANNELS, found, strict=True):
        original = np.load(next(root.rglob(f"A117_Illum{channel}.npy")))
        assert function.dtype == np.float32
        np.testing.assert_array_equal(function, original)
    assert not any(path.is_symlink() for path in paths)


def test_a_plate_without_functions_is_named_with_the_way_out(root, tmp_path):
    gallery, paths = LocalGallery(str(root)), outputs(tmp_path)
    way_out = "crops.illumination to deepprofiler.*exclude_plates"
    with pytest.raises(UserError, match=f"DNA, ER, Mito for source_8 B200 .*{way_out}"):
        download_illumination(gallery, INDEX.assign(Metadata_Plate="B200"), CHANNELS, paths)
    next(root.rglob("A117_IllumER.npy")).unlink()
    with pytest.raises(UserError, match=f"function of ER for source_8 A117 .*{way_out}"):
        download_illumination(gallery, INDEX, CHANNELS, paths)
    assert not paths[0].exists()


def packed(array, **more):
    content = io.BytesIO()
    np.save(content, array, **more)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no</html>",
        packed(np.ones((20, 30)))[:-8],
        packed(np.zeros((20, 30))),
        packed(np.full((20, 30), np.nan)),
        packed(np.ones(20)),
        packed(np.array([{"a": 1}]), allow_pickle=True),
        packed(np.full((20, 30), "one")),
    ],
    ids=["empty", "page", "cut", "zeros", "nan", "line", "pickle", "text"],
)
def test_what_is_no_function_is_refused_before_it_is_kept(root, tmp_path, content):
    next(root.rglob("A117_IllumDNA.npy")).write_bytes(content)
    paths = outputs(tmp_path)
    with pytest.raises(UserError, match="A117_IllumDNA.npy .*crops.illumination"):
        download_illumination(LocalGallery(str(root)), INDEX, CHANNELS, paths)
    assert not paths[0].exists()


def test_the_size_must_be_the_images(root, tmp_path):
    paths = outputs(tmp_path)
    download_illumination(LocalGallery(str(root)), INDEX, CHANNELS, paths)
    with pytest.raises(UserError, match=r"DNA.npy has size \(20, 30\).*crops.illumination"):
        read_functions(paths, (30, 20))
    with pytest.raises(UserError, match="none.npy cannot be read"):
        read_functions([tmp_path / "none.npy"])


def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path):
    np.save(tmp_path / "f.npy", np.ones((20, 30), "f4"))
    content = (tmp_path / "f.npy").read_bytes()
    assert b"(20, 30)" in content
    for claim in (b"(90000, 90000)", b"(2**9, 9)", b"(-1, 30)", b"(20, 31)"):
        ending = b", }" + b" " * (len(claim) - 8)
        changed = content.replace(b"(20, 30)" + ending, claim + b", }")
        assert claim in changed
        (tmp_path / "f.npy").write_bytes(changed)
        with pytest.raises(UserError, match="cannot be read"):
            read_functions([tmp_path / "f.npy"])


def test_a_damaged_function_is_told_in_a_sentence(tmp_path):
    np.save(tmp_path / "f.npy", np.ones((20, 30), "f4"))
    content, rng = (tmp_path / "f.npy").read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(content)
        for place in rng.integers(0, 128, 2):
            changed[place] = rng.integers(256)
        (tmp_path / "f.npy").write_bytes(changed)
        with contextlib.suppress(UserError):
            assert read_functions([tmp_path / "f.npy"])[0].ndim == 2
