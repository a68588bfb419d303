"""A mirror on a disk of one's own: what cannot be read of it costs one file, and is named."""

import errno
import os
from pathlib import Path

import pytest
from coda.files import read_table
from coda.gallery.base import BrokenObject, MissingObject
from coda.gallery.download import download_plate
from coda.gallery.local import LocalGallery
from plates import make_plate


@pytest.fixture
def mirror(tmp_path) -> LocalGallery:
    """A folder with two files, and two entries that lead nowhere."""
    folder = tmp_path / "mirror/source_3/images"
    (folder / "P1").mkdir(parents=True)
    for number in range(2):
        (folder / f"P1/{number}.tif").write_bytes(bytes(10))
    (folder / "P1/dangling.tif").symlink_to(tmp_path / "nowhere")
    (folder / "P1/loop.tif").symlink_to(folder / "P1/loop.tif")
    (folder / "linked").symlink_to(folder / "P1")
    return LocalGallery(str(tmp_path / "mirror"))


def test_entries_that_lead_nowhere_are_skipped_and_named(mirror, capsys):
    found = [entry.key for entry in mirror.entries("source_3/images/P1")]
    assert found == ["source_3/images/P1/0.tif", "source_3/images/P1/1.tif"]
    told = capsys.readouterr().err
    assert "dangling.tif is skipped: No such file" in told
    assert "loop.tif is skipped: Too many levels" in told
    folders = ["source_3/images/P1", "source_3/images/linked"]
    assert mirror.folders("source_3/images") == folders
    assert mirror.folders("source_3/images/P1/0.tif") == mirror.folders("no") == []


def test_a_file_that_cannot_be_read_is_a_broken_object(mirror, tmp_path):
    with pytest.raises(MissingObject):
        mirror.fetch("source_3/images/P1/dangling.tif", tmp_path / "file")
    for use in (mirror.read, lambda key: mirror.fetch(key, tmp_path / "file")):
        with pytest.raises(BrokenObject, match="Too many levels"):
            use("source_3/images/P1/loop.tif")
    assert not os.path.lexists(tmp_path / "file")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_folder_or_file_of_a_failing_disk_is_named(mirror, tmp_path, monkeypatch, number):
    def fail(*_: object, **__: object):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(BrokenObject, match=os.strerror(number)):
        mirror.fetch("source_3/images/P1/0.tif", tmp_path / "file")
    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(BrokenObject, match=f"listed: {os.strerror(number)}"):
        list(mirror.entries("source_3"))


def test_one_such_file_costs_its_site_and_not_the_plate(tmp_path, monkeypatch):
    index = make_plate(tmp_path / "mirror", 12)
    for number, kind in ((1, errno.ELOOP), (5, errno.ENOENT)):
        image = tmp_path / "mirror" / index.Key_DNA[number]
        image.unlink()
        image.symlink_to(image if kind == errno.ELOOP else tmp_path / "nowhere")
    folder, manifest = tmp_path / "images/source_3/0012", tmp_path / "0012.parquet"
    download_plate(LocalGallery(str(tmp_path / "mirror")), index, ["DNA"], folder, manifest, 0.2, 4)
    table = read_table(manifest)
    assert table.status.tolist() == [
        {1: "broken", 5: "missing"}.get(number, "ok") for number in range(12)
    ]
    assert "Too many levels" in table.reason[1] and len(os.listdir(folder)) == 10


def test_links_to_a_folder_above_end(mirror, capsys):
    folder = mirror.folder / "source_3/images/P1"
    for name in ("self", "again"):
        (folder / name).symlink_to(folder)
        (folder / f"up_{name}").symlink_to(mirror.folder)
    found = [entry.key for entry in mirror.entries("source_3")]
    assert (
        len(found) == 4 and "source_3/images/linked/0.tif" in found
    )  # each file by each way without a ring
    assert "is a link to a folder above it" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS])
def test_file_systems_without_links_get_copies(tmp_path, monkeypatch, number):
    index = make_plate(tmp_path / "mirror", 12)

    def refuse(*_: object, **__: object):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "symlink", refuse)
    folder = tmp_path / "images/P1"
    gallery = LocalGallery(str(tmp_path / "mirror"))
    download_plate(gallery, index, ["DNA"], folder, tmp_path / "m.parquet", 0)
    for key, file in read_table(tmp_path / "m.parquet")[["key", "file"]].to_numpy():
        assert not (folder / file).is_symlink()
        assert (folder / file).read_bytes() == (tmp_path / "mirror" / key).read_bytes()


def test_a_full_disk_is_no_file_system_without_links(tmp_path, monkeypatch):
    def fill(*_: object, **__: object):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    index = make_plate(tmp_path / "mirror", 1)
    monkeypatch.setattr(os, "symlink", fill)
    with pytest.raises(OSError, match="No space"):
        LocalGallery(str(tmp_path / "mirror")).fetch(index.Key_DNA[0], tmp_path / "image")


def test_names_that_are_no_text_are_skipped_and_told(mirror, capsys):
    place = os.fsencode(mirror.folder / "source_3/images/P1") + b"/\xff.tif"
    Path(os.fsdecode(place)).write_bytes(b"")
    assert len(list(mirror.entries("source_3/images/P1"))) == 2
    assert r"\xff.tif' is skipped: its name is no UTF-8" in capsys.readouterr().err
