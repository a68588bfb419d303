"""The folder of images: one process a plate, and no more plates than there is room for."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from coda.errors import UserError
from coda.files import read_table
from coda.gallery import download
from coda.gallery.download import download_plate
from coda.gallery.local import LocalGallery
from plates import make_plate

# A gallery that takes its time over each image, and writes down what it was asked for.
RUN = textwrap.dedent(
    """
    import hashlib, sys, time
    from pathlib import Path
    import pandas as pd
    from coda.gallery.download import download_plate
    from coda.gallery.base import Fetched
    from coda.gallery.local import LocalGallery
    root, index, folder, manifest, log, pause, patience = sys.argv[1:]

    class Slow(LocalGallery):
        def fetch(self, key, path, listed=None):
            with open(log, "a") as lines:
                lines.write(key + "\\n")
            content = (self.folder / key).read_bytes()
            with open(path, "wb") as file:
                file.write(content[:100])
                file.flush()
                time.sleep(float(pause))
                file.write(content[100:])
            return Fetched(len(content), None, hashlib.md5(content).hexdigest(), 1, 0.0)

    download_plate(
        Slow(root), pd.read_parquet(index), ["DNA", "ER"], Path(folder), Path(manifest), 0.0, 4,
        patience=float(patience),
    )
    """
)


class Downloads:
    """Processes that all bring one plate."""

    def __init__(self, folder: Path):
        self.root, self.log = folder / "gallery", folder / "log"
        make_plate(self.root, 12).to_parquet(folder / "index.parquet")
        self.images, self.manifest = folder / "images/source_3/0012", folder / "0012.parquet"
        self.place, self.running = folder, []

    def start(self, pause: float, patience: float) -> subprocess.Popen:
        words = [self.root, self.place / "index.parquet", self.images, self.manifest, self.log]
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words, str(pause), str(patience)],
            env=os.environ | {"PYTHONPATH": str(Path(download.__file__).parents[2])},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def asked(self) -> list[str]:
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + 60
        while len(self.asked()) < count:
            assert time.monotonic() < end and self.running[0].poll() is None, "nothing is fetched"
            time.sleep(0.01)

    def check(self) -> None:
        table = read_table(self.manifest)
        assert set(table.status) == {"ok"} and len(table) == 24
        for row in table.itertuples():
            assert (self.images / row.file).read_bytes() == (self.root / row.key).read_bytes()
        assert os.listdir(self.images.parent) == ["0012"]


@pytest.fixture
def downloads(tmp_path):
    made = Downloads(tmp_path)
    yield made
    for process in made.running:
        with process:
            process.kill()


def test_a_second_download_of_a_plate_waits_for_the_first_and_takes_what_it_brought(downloads):
    first = downloads.start(0.3, 0)
    downloads.wait_for(4)
    os.kill(first.pid, signal.SIGSTOP)  # or it might be done before the second has begun
    second = downloads.start(0.3, 60)
    told = second.stdout.readline()
    assert f"Process {first.pid} on" in told and "waiting for it" in told
    os.kill(first.pid, signal.SIGCONT)
    told = second.communicate()[0]
    assert first.wait() == second.returncode == 0, told
    assert len(downloads.asked()) == len(set(downloads.asked())) == 24
    downloads.check()


def test_a_second_download_refuses_in_a_sentence_and_goes_on_when_the_first_is_killed(downloads):
    first = downloads.start(0.3, 0)
    downloads.wait_for(5)
    os.kill(first.pid, signal.SIGSTOP)
    second = downloads.start(0, 0.2)
    told = second.communicate()[0]
    assert second.returncode and f"UserError: Process {first.pid} on" in told
    assert "fetches the plate source_3 0012 into" in told and "too; wait until it is done" in told
    first.kill()
    third = downloads.start(0, 0)
    assert third.wait() == 0, third.communicate()[0]
    downloads.check()


def test_a_plate_is_refused_where_as_many_others_as_allowed_left_images(tmp_path):
    """Plates whose crops or downloads failed keep their images: the next ones must not fill the disk."""
    index, images = make_plate(tmp_path / "gallery", 2), tmp_path / "images"
    gallery = LocalGallery(str(tmp_path / "gallery"))

    def fetch(plate, most):
        named = index.assign(Metadata_Plate=plate)
        manifest = tmp_path / f"{plate}.parquet"
        download_plate(gallery, named, ["DNA"], images / "source_3" / plate, manifest, 0.0, 2, most)

    fetch("P1", 2)
    (images / "source_5/P2.partial").mkdir(parents=True)
    (images / "source_5/P2.lock").touch()
    with pytest.raises(
        UserError,
        match=r"source_3 P3 is not fetched.* 2 other plates .*plates_in_flight is 2: source_3 P1, source_5 P2; ",
    ):
        fetch("P3", 2)
    assert sorted(path.name for path in images.glob("*/*")) == ["P1", "P2.lock", "P2.partial"]
    fetch("P3", 3)
    (images / "source_3/P4.partial").mkdir()
    fetch("P4", 2)  # begun by an earlier run: it goes on
    fetch("P1", 2)  # complete
    fetch("P5", None)
    assert len(list(images.glob("source_3/*"))) == 4


def test_images_are_on_the_disk_before_the_manifest_calls_them_good(tmp_path, monkeypatch):
    index, synced = make_plate(tmp_path / "gallery", 2), []
    folder, manifest = tmp_path / "images/source_3/0012", tmp_path / "0012.parquet"
    monkeypatch.setattr(
        os, "sync", lambda: synced.append((manifest.exists(), folder.exists(), len(os.listdir(f"{folder}.partial"))))
    )  # fmt: skip
    download_plate(LocalGallery(str(tmp_path / "gallery")), index, ["DNA"], folder, manifest, 0.0)
    assert synced == [(False, False, 3)]  # two images and the journal


def test_another_choice_of_sites_is_another_plate(tmp_path):
    """Only what this very job wants counts as brought by another."""
    index = make_plate(tmp_path / "gallery", 6)
    gallery, folder = LocalGallery(str(tmp_path / "gallery")), tmp_path / "images/source_3/0012"
    index.loc[1, "Key_DNA"] = None
    for part in (index[:4], index):
        download_plate(gallery, part, ["DNA"], folder, tmp_path / "0012.parquet", 0.5)
        kept = set(read_table(tmp_path / "0012.parquet").query("status == 'ok'").file)
        assert kept == set(os.listdir(folder)) and len(kept) == len(part) - 1
    before = folder.stat().st_mtime_ns
    with pytest.raises(UserError, match=r"gallery\.max_lost = 0 "):
        download_plate(gallery, index, ["DNA"], folder, tmp_path / "0012.parquet", 0.0)
    assert folder.stat().st_mtime_ns == before
