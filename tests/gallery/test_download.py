"""A plate arrives whole or its losses are named, whatever network, disk and kills do to it."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import read_table
from coda.gallery import download_log as journal
from coda.gallery.base import Fetched
from coda.gallery.download import COLUMNS, download_plate
from coda.gallery.download_log import Journal
from coda.gallery.local import LocalGallery
from coda.gallery.s3 import S3Gallery
from faulty_server import KINDS, TWICE, Faults, faulty_server
from orphan import SNAKEMAKE
from plates import CHANNELS, make_plate, tiff
from s3_server import s3_server


def check_images(table: pd.DataFrame, folder: Path, root: Path) -> None:
    """Every good object is there byte for byte, and nothing else is."""
    good = table[table.status == "ok"]
    assert sorted(os.listdir(folder)) == sorted(good.file)
    for row in good.itertuples():
        content = (root / row.key).read_bytes()
        assert (folder / row.file).read_bytes() == content and row.bytes == len(content)


@pytest.fixture
def plate(tmp_path):
    root = tmp_path / "buckets/bucket/jump"
    return (
        root,
        make_plate(root, 12),
        tmp_path / "images/source_3/0012",
        tmp_path / "manifests/source_3/0012.parquet",
    )


class Counting(LocalGallery):
    """A local gallery that copies like a remote one, counts, and fails when told to."""

    def __init__(self, root: Path):
        super().__init__(str(root))
        self.fetches, self.error_after = Counter(), None

    def fetch(self, key, path, listed=None):
        if self.error_after is not None and self.fetches.total() >= self.error_after[0]:
            raise self.error_after[1]
        self.fetches[key] += 1
        fetched = super().fetch(key, path)
        content = Path(path).read_bytes()
        path.unlink()
        path.write_bytes(content)
        return Fetched(fetched.bytes, None, hashlib.md5(content).hexdigest(), 1, 0.0)


def test_a_plate_from_s3_with_its_manifest(plate, tmp_path):
    root, index, folder, manifest = plate
    with s3_server(tmp_path / "buckets") as endpoint:
        download_plate(
            S3Gallery("s3://bucket/jump", endpoint), index, CHANNELS, folder, manifest, 0.0
        )
    table = read_table(manifest)
    assert list(table.columns) == COLUMNS and len(table) == 60
    assert set(table.status) == {"ok"} and table.reason.isna().all() and set(table.attempts) == {1}
    assert set(table.Metadata_Plate) == {"0012"} and list(table.channel[:5]) == CHANNELS
    check_images(table, folder, root)
    for row in table.itertuples():
        assert row.file == f"{row.Metadata_Well}_s{row.Metadata_Site}_{row.channel}.tiff"
        assert row.md5 == row.etag == hashlib.md5((root / row.key).read_bytes()).hexdigest()
    assert not folder.with_name("0012.partial").exists()


def test_a_plate_from_a_folder_costs_no_disk(plate):
    root, index, folder, manifest = plate
    download_plate(LocalGallery(str(root)), index, ["DNA"], folder, manifest, 0.0)
    table = read_table(manifest)
    assert all((folder / file).is_symlink() for file in table.file) and len(table) == 12
    check_images(table, folder, root)
    shutil.rmtree(folder)
    assert (root / index.Key_DNA[0]).exists()


def damage(root: Path, index: pd.DataFrame) -> dict[str, str]:
    """Spoil five objects in the ways known of the gallery; give status by key."""
    whole = tiff(999)
    spoilt = {
        index.Key_DNA[0]: None,
        index.Key_ER[2]: bytes(len(whole)),
        index.Key_RNA[4]: b"",
        index.Key_AGP[6]: whole[: len(whole) // 2],
        index.Key_Mito[6]: b"<html>",
    }
    for key, content in spoilt.items():
        (root / key).unlink() if content is None else (root / key).write_bytes(content)
    return {key: "missing" if content is None else "broken" for key, content in spoilt.items()}


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_bad_objects_cost_their_sites_and_are_named(plate, tmp_path, capsys, kind):
    root, index, folder, manifest = plate
    bad = damage(root, index)
    with s3_server(tmp_path / "buckets") as endpoint:
        gallery = (
            LocalGallery(str(root)) if kind == "local" else S3Gallery("s3://bucket/jump", endpoint)
        )
        download_plate(gallery, index, CHANNELS, folder, manifest, 4 / 12)
        told = capsys.readouterr().err
        table = read_table(manifest)
        assert table[table.status != "ok"].set_index("key").status.to_dict() == bad
        assert "4 of 12 sites" in told and all(key in told for key in bad)
        check_images(table, folder, root)
        with pytest.raises(
            UserError,
            match=r"source_3 0012 loses 4 of 12 sites \(33.33%\).*gallery\.max_lost = 0\.3 ",
        ):
            download_plate(gallery, index, CHANNELS, folder, manifest, 0.3)


def test_a_key_that_the_index_lacks_is_missing(plate):
    root, index, folder, manifest = plate
    index.loc[3, "Key_ER"] = None
    download_plate(LocalGallery(str(root)), index, CHANNELS, folder, manifest, 0.1)
    table = read_table(manifest)
    bad = table[table.status != "ok"]
    assert bad[["Metadata_Well", "Metadata_Site", "channel", "status"]].to_numpy().tolist() == [
        ["B01", 3, "ER", "missing"]
    ]
    assert bad.bytes.isna().all() and bad.attempts.tolist() == [0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Metadata_Well", "../A01"),
        ("Metadata_Well", "A1"),
        ("Metadata_Well", "a01"),
        ("Metadata_Well", "A01\n"),
        ("Metadata_Site", -1),
        ("Metadata_Site", 1000),
    ],
)
def test_wells_and_sites_that_cannot_be_are_refused(plate, column, value):
    root, index, folder, manifest = plate
    index.loc[1, column] = value
    with pytest.raises(UserError, match="0012"):
        download_plate(LocalGallery(str(root)), index, CHANNELS, folder, manifest, 1.0)
    assert not folder.parent.exists()


def test_hostile_keys_and_channels_write_nothing(plate, tmp_path):
    root, index, folder, manifest = plate
    index.loc[0, "Key_DNA"] = "../../../secret"
    (tmp_path / "secret").write_bytes(tiff(0))
    with pytest.raises(UserError, match="refused"):
        download_plate(LocalGallery(str(root)), index, CHANNELS, folder, manifest, 1.0)
    with pytest.raises(UserError, match="channel"):
        download_plate(LocalGallery(str(root)), index, ["../DNA"], folder, manifest, 1.0)
    with pytest.raises(UserError, match="twice"):
        download_plate(
            LocalGallery(str(root)), pd.concat([index, index[:1]]), CHANNELS, folder, manifest, 1.0
        )
    with pytest.raises(UserError, match="no site"):
        download_plate(LocalGallery(str(root)), index[:0], CHANNELS, folder, manifest, 1.0)
    assert not folder.exists() and not manifest.exists()


@pytest.mark.parametrize("name", ["0012", "0012.partial"])
def test_nothing_behind_a_link_is_deleted(plate, tmp_path, name):
    root, index, folder, manifest = plate
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("content")
    folder.parent.mkdir(parents=True)
    (folder.parent / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=f"{name} is a link, which is not followed"):
        download_plate(LocalGallery(str(root)), index, CHANNELS, folder, manifest, 0.0)
    assert (tmp_path / "precious/file").read_text() == "content"


def test_a_full_disk_is_told_and_nothing_is_fetched_again(plate):
    root, index, folder, manifest = plate
    gallery = Counting(root)
    for fetched in (20, 45):
        gallery.error_after = (fetched, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(UserError, match="disk that holds .*0012.partial is full"):
            download_plate(gallery, index, CHANNELS, folder, manifest, 0.0, workers=3)
        assert not folder.exists() and not manifest.exists()
    gallery.error_after = None
    download_plate(gallery, index, CHANNELS, folder, manifest, 0.0)
    assert len(gallery.fetches) == 60 and set(gallery.fetches.values()) == {1}
    check_images(read_table(manifest), folder, root)


def test_a_disk_that_is_really_full(plate, tmp_path):
    root, index, folder, manifest = plate
    small = tmp_path / "small"
    small.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", small], capture_output=True
        ).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        with s3_server(tmp_path / "buckets") as endpoint:
            gallery = S3Gallery("s3://bucket/jump", endpoint)
            with pytest.raises(UserError, match="is full"):
                download_plate(gallery, index, CHANNELS, small / "0012", manifest, 0.0, workers=4)
            partial = small / "0012.partial"
            kept = [
                json.loads(line)
                for line in (partial / Journal.NAME).read_bytes().splitlines()
                if line.endswith(b"}")
            ]
            kept = [row for row in kept if "file" in row]
            assert len(kept) > 5 and not list(partial.glob("*.part"))
            for row in kept:
                assert (partial / row["file"]).read_bytes() == (root / row["key"]).read_bytes()
            subprocess.run(["mount", "-o", "remount,size=2m", small], check=True)
            with faulty_server(endpoint) as recorder:
                download_plate(
                    S3Gallery("s3://bucket/jump", recorder.endpoint),
                    index,
                    CHANNELS,
                    small / "0012",
                    manifest,
                    0.0,
                )
        check_images(read_table(manifest), small / "0012", root)
        assert len(
            [request for request in recorder.requests if "?" not in request.key]
        ) == 60 - len(kept)
    finally:
        subprocess.run(["umount", small], check=True)


def interrupted(plate, fetched: int = 30) -> Counting:
    """A download that stopped after some objects."""
    root, index, folder, manifest = plate
    gallery = Counting(root)
    gallery.error_after = (fetched, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        download_plate(gallery, index, CHANNELS, folder, manifest, 0.0, workers=1)
    gallery.error_after = None
    return gallery


def test_files_changed_since_are_fetched_again(plate):
    root, index, folder, manifest = plate
    gallery = interrupted(plate)
    partial = folder.with_name("0012.partial")
    files = sorted(partial.glob("*.tiff"))
    files[0].unlink()
    files[1].write_bytes(b"short")
    with open(partial / Journal.NAME, "ab") as lines:
        lines.write(b'{"file": "B01_s')  # a kill in the middle of a line
    download_plate(gallery, index, CHANNELS, folder, manifest, 0.0)
    check_images(read_table(manifest), folder, root)
    assert sorted(gallery.fetches.values()) == [1] * 58 + [2] * 2


def test_after_a_reboot_files_are_hashed_before_they_are_believed(plate, monkeypatch):
    root, index, folder, manifest = plate
    gallery = interrupted(plate)
    lost = sorted(folder.with_name("0012.partial").glob("*.tiff"))[3]
    lost.write_bytes(bytes(lost.stat().st_size))  # the name reached the disk, the bytes did not
    monkeypatch.setattr(journal, "boot_id", lambda: "another")
    download_plate(gallery, index, CHANNELS, folder, manifest, 0.0)
    check_images(read_table(manifest), folder, root)
    assert sorted(gallery.fetches.values()) == [1] * 59 + [2]


def test_an_object_under_another_key_is_another_object(plate):
    root, index, folder, manifest = plate
    gallery = interrupted(plate)
    index.loc[0, "Key_DNA"] = index.loc[11, "Key_Mito"]
    download_plate(gallery, index, CHANNELS, folder, manifest, 0.0)
    check_images(read_table(manifest), folder, root)


def test_fewer_channels_leave_no_other_files(plate):
    root, index, folder, manifest = plate
    gallery = interrupted(plate)
    download_plate(gallery, index, ["DNA"], folder, manifest, 0.0)
    check_images(read_table(manifest), folder, root)


def test_a_gallery_that_goes_down_is_told_and_what_came_is_kept(plate, tmp_path):
    root, index, folder, manifest = plate
    with s3_server(tmp_path / "buckets") as endpoint, faulty_server(endpoint) as server:
        server.note = lambda *arguments, note=server.note: (
            "reset" if len(server.requests) > 25 else note(*arguments)  # the first is a listing
        )
        gallery = S3Gallery(
            "s3://bucket/jump", server.endpoint, attempts=3, timeout=2, backoff=0.01, patience=0.3
        )
        with pytest.raises(UserError, match="is down"):
            download_plate(gallery, index, CHANNELS, folder, manifest, 0.0, workers=4)
    assert len(list(folder.with_name("0012.partial").glob("*.tiff"))) == 25


RUN = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import pandas as pd
    from coda.gallery.download import download_plate
    from coda.gallery.s3 import S3Gallery
    endpoint, index, folder, manifest, max_lost = sys.argv[1:]
    gallery = S3Gallery("s3://bucket/jump", endpoint, attempts=8, timeout=2.5, backoff=0.02)
    index = pd.read_parquet(index)
    channels = [name.removeprefix("Key_") for name in index.columns if name.startswith("Key_")]
    download_plate(gallery, index, channels, Path(folder), Path(manifest), float(max_lost), 16)
    """
)


def journaled(partial: Path) -> set[str]:
    """Keys that a journal calls complete; a line being written is not counted."""
    path = partial / Journal.NAME
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {row["key"] for row in map(json.loads, lines) if "key" in row}


def test_hundreds_of_faults_and_two_kills(tmp_path):
    root = tmp_path / "buckets/bucket/jump"
    index = make_plate(root, 72)
    index.to_parquet(tmp_path / "index.parquet")
    bad = damage(root, index)
    cursed = {
        index.Key_DNA[20]: "internal",
        index.Key_ER[21]: "short",
        index.Key_RNA[22]: "flip",
        index.Key_AGP[23]: "reset",
    }
    bad |= dict.fromkeys(cursed, "broken")
    folder, manifest = tmp_path / "images/0012", tmp_path / "0012.parquet"
    partial = tmp_path / "images/0012.partial"
    environment = os.environ | {"PYTHONPATH": str(Path(journal.__file__).parents[2])}
    complete, marks = [set()], []
    with (
        s3_server(tmp_path / "buckets") as endpoint,
        faulty_server(
            endpoint, Faults(rate=0.72, seed=20230, always=cursed, kinds=(*KINDS, TWICE))
        ) as server,
    ):
        command = [
            sys.executable,
            "-c",
            RUN,
            server.endpoint,
            tmp_path / "index.parquet",
            folder,
            manifest,
            "0.2",
        ]
        for enough in (100, 220):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            while len(journaled(partial)) < enough:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.3)  # requests that it sent last are still being written down
            complete.append(journaled(partial))
            marks.append(len(server.requests))
            assert not folder.exists() and not manifest.exists()
        subprocess.run(command, env=environment, check=True, capture_output=True)
    requests = server.requests

    table = read_table(manifest)
    assert len(table) == 360
    check_images(table, folder, root)
    assert table[table.status != "ok"].set_index("key").status.to_dict() == bad
    assert table.loc[table.status != "ok", "reason"].str.len().gt(5).all()

    faults = Counter(request.fault for request in requests if request.fault)
    assert faults.total() >= 500 and set(faults) == {*KINDS, TWICE, "late"}

    # What was complete when a process was killed is not asked for again, and every other request
    # has its reason: the first one, a fault before it, or a kill while it was on its way.
    for mark, done in zip(marks, complete[1:], strict=True):
        assert done and not done & {
            request.key.removeprefix("bucket/jump/") for request in requests[mark:]
        }
    runs = [requests[start:end] for start, end in zip([0, *marks], [*marks, None], strict=True)]
    for run in runs:
        asked = Counter(request.key for request in run)
        failed = Counter(request.key for request in run if request.fault not in (None, TWICE))
        assert all(asked[key] <= failed[key] + 1 for key in asked)
    attempts = table.set_index("key").attempts
    last = Counter(request.key.removeprefix("bucket/jump/") for request in runs[-1])
    last.pop("no-such", None)  # asked for to see whether the gallery is there
    assert all(attempts[key] == count for key, count in last.items() if "?" not in key)


def test_a_plate_that_outlives_its_snakemake_is_not_fetched_again(plate, tmp_path):
    root, index, folder, manifest = plate
    index.to_parquet(tmp_path / "index.parquet")
    environment = os.environ | {"PYTHONPATH": str(Path(journal.__file__).parents[2])}
    partial = folder.with_name("0012.partial")
    with s3_server(tmp_path / "buckets") as endpoint, faulty_server(endpoint) as server:
        places = [server.endpoint, tmp_path / "index.parquet", folder, manifest, "0"]
        command = [sys.executable, "-c", RUN, *map(str, places)]
        begun = threading.Event()
        note = server.note

        def held_back(*arguments):
            begun.set()
            time.sleep(0.05)
            return note(*arguments)

        server.note = held_back
        snakemake = subprocess.Popen(
            [*SNAKEMAKE, *command], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert begun.wait(60)
        snakemake.kill()
        _, said = snakemake.communicate(timeout=60)  # which the orphan writes to until its end
        assert "stay in" in said and not folder.exists() and not manifest.exists()
        assert len(list(partial.glob("*.tiff"))) == 60
        asked = len(server.requests)
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert len(server.requests) == asked
    check_images(read_table(manifest), folder, root)
    assert not partial.exists()


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"bytes": 1' + b"0" * 5000 + b"}",
        b'{"file": "/dev/zero", "key": 1, "bytes": 0, "md5": "x", "status": "ok"}',
        b'{"file": "../a.tiff", "key": 1, "bytes": 5, "md5": null, "status": "ok"}',
        b'{"file": "pipe", "key": 1, "bytes": 0, "md5": "x", "status": "ok"}',
        b'{"file": "a\\u0000", "key": 1, "bytes": 5, "md5": null, "status": "ok"}',
        b'{"file": "\\ud800", "key": 1, "bytes": 5, "md5": null, "status": "ok"}',
        b'{"file": "", "key": 1, "bytes": 4096, "md5": "x", "status": "ok"}',
    ],
)
def test_lines_of_a_journal_that_nobody_wrote_here_are_passed_over(tmp_path, line):
    (tmp_path / "a.tiff").write_bytes(b"12345")
    (tmp_path.parent / "a.tiff").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    md5 = hashlib.md5(b"12345").hexdigest()
    whole = {"file": "a.tiff", "key": "k", "bytes": 5, "md5": md5, "status": "ok"}
    (tmp_path / Journal.NAME).write_bytes(line + b"\n" + json.dumps(whole).encode() + b"\n")
    with Journal(tmp_path, 2) as opened:
        assert opened.done == {"a.tiff": whole}
