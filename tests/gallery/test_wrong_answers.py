"""Answers that are not what was asked for: none is taken for an image, and none ends the download of a plate."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tifffile
from coda.errors import UserError
from coda.files import read_table
from coda.gallery import s3
from coda.gallery.base import BrokenObject, Fetched, GalleryDown, MissingObject
from coda.gallery.download import download_plate
from coda.gallery.local import LocalGallery
from coda.gallery.s3 import S3Gallery
from coda.gallery.s3_requests import has_parts
from faulty_server import GONE, KINDS, STRAY, TWICE, Faults, faulty_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plates import make_plate
from s3_server import s3_server

CHANNELS = ["DNA", "ER", "Mito"]


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    """A plate of 24 images, all of one size, on an S3 server."""
    folder = tmp_path_factory.mktemp("buckets")
    index = make_plate(folder / "bucket/jump", 8)
    with s3_server(folder) as endpoint:
        yield folder / "bucket/jump", index, endpoint


def hasty(endpoint: str, **options) -> S3Gallery:
    """A gallery that waits for nothing long."""
    return S3Gallery("s3://bucket/jump", endpoint, **{"timeout": 1.0, "backoff": 0.01} | options)


def download(gallery, index, place: Path, max_lost: float = 0.0, workers: int = 4):
    """Download a plate; give its manifest and folder."""
    folder, manifest = place / "images/source_3/0012", place / "0012.parquet"
    download_plate(gallery, index, CHANNELS, folder, manifest, max_lost, workers)
    return read_table(manifest).set_index("key"), folder


def is_right(table, folder: Path, root: Path) -> bool:
    """Whether each image is that of its key, read without any of what is tested."""
    return all(
        (folder / file).read_bytes() == (root / key).read_bytes()
        for key, file in table.file.items()
    )


@pytest.mark.parametrize("kind", [TWICE, STRAY])
def test_answers_out_of_step_reach_no_image(plates, tmp_path, kind):
    root, index, endpoint = plates
    with faulty_server(endpoint, Faults(rate=0.6, seed=5, kinds=(kind,))) as server:
        table, folder = download(hasty(server.endpoint), index, tmp_path, workers=2)
    assert is_right(table, folder, root) and set(table.checked) == {"md5"}
    assert len({request.fault for request in server.requests} & {kind, "late"}) == 2


@settings(
    derandomize=True, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), rate=st.floats(0.1, 0.7))
def test_any_mix_of_faults_leaves_the_plate_as_it_is_on_the_server(plates, tmp_path, seed, rate):
    root, index, endpoint = plates
    place = tmp_path / f"{seed} {rate}"
    with faulty_server(endpoint, Faults(rate, seed, kinds=(*KINDS, TWICE))) as server:
        table, folder = download(hasty(server.endpoint, attempts=12), index, place, workers=8)
    assert len(table) == 24 and set(table.status) == {"ok"} and is_right(table, folder, root)


def test_an_object_that_is_listed_is_missing_when_that_is_said_twice(plates, tmp_path):
    root, index, endpoint = plates
    once, always = index.Key_DNA[0], index.Key_ER[3]
    with faulty_server(endpoint, Faults(always={always: GONE})) as server:
        note = server.note
        server.note = lambda key, *rest: (
            note(key, *rest) or (GONE if once in key and server.counts[key] == 1 else None)
        )
        table, folder = download(hasty(server.endpoint), index, tmp_path, max_lost=0.2)
    assert table.status[table.status != "ok"].to_dict() == {always: "missing"}
    assert (table.attempts[once], table.attempts[always]) == (2, 2)
    assert is_right(table.drop(always), folder, root)


def test_an_object_that_is_not_listed_is_not_asked_for(plates, tmp_path):
    root, index, endpoint = plates
    index = index.copy()
    index.loc[2, "Key_ER"] = index.Key_ER[2] + "x"
    with faulty_server(endpoint) as server:
        table, _ = download(hasty(server.endpoint), index, tmp_path, max_lost=0.2)
    lost = table[table.status != "ok"]
    assert lost.reason.to_dict() == {index.Key_ER[2]: "the gallery does not list it"}
    assert not server.counts[f"bucket/jump/{index.Key_ER[2]}"]


@contextmanager
def storm(server, seconds: float):
    """Refuse all requests from the first one on, listings and probes too; fetch meanwhile."""
    note, began = server.note, []

    def meet(key, *rest):
        note(key, *rest)
        began.append(time.monotonic())
        return "internal" if began[-1] - began[0] < seconds else None

    server.note = meet
    yield
    assert time.monotonic() - began[0] > seconds


def test_a_storm_is_waited_for(plates, tmp_path):
    """Two attempts with waits of 10 ms are over long before the storm is: the probe has to wait for its end."""
    root, index, endpoint = plates
    with faulty_server(endpoint) as server, storm(server, 3):
        table, folder = download(hasty(server.endpoint, attempts=2), index, tmp_path)
    assert set(table.status) == {"ok"} and is_right(table, folder, root)


def test_by_default_a_storm_of_a_minute_is_waited_for_and_requests_are_few(monkeypatch):
    clock, asked = [1000.0], []
    gallery = S3Gallery("s3://bucket/jump", "http://127.0.0.1:9")
    monkeypatch.setattr(s3.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        gallery.down, "wait", lambda seconds: clock.__setitem__(0, clock[0] + seconds)
    )

    def refuse(*_):
        asked.append(clock[0])
        clock[0] += 0.01
        if clock[0] < 1060:
            raise s3.BusyError("503 SlowDown")
        raise MissingObject("404 NoSuchKey")

    monkeypatch.setattr(s3, "get_object", refuse)
    with pytest.raises(MissingObject):
        gallery.retry(refuse)
    assert 1060 < clock[0] < 1080 and len(asked) < 60


def test_a_plate_that_fails_in_a_storm_keeps_no_other_from_the_disk(plates, tmp_path):
    root, index, endpoint = plates
    with faulty_server(endpoint) as server:
        note = server.note
        server.note = lambda *words: (
            note(*words) or ("internal" if len(server.requests) > 9 else None)
        )
        with pytest.raises(
            GalleryDown, match="is down.*500 InternalError.*what has arrived is kept"
        ):
            download(hasty(server.endpoint, attempts=2, storm=0.2), index, tmp_path)
        assert any((tmp_path / "images/source_3/0012.partial").glob("*.tiff"))
        server.note = note
        for plate in ("0013", "0012"):  # the other, and the one that failed
            named = index.assign(Metadata_Plate=plate)
            folder, manifest = tmp_path / "images/source_3" / plate, tmp_path / f"{plate}.parquet"
            download_plate(
                hasty(server.endpoint),
                named,
                CHANNELS,
                folder,
                manifest,
                0.0,
                4,
                plates_in_flight=1 + (plate == "0012"),
            )
            assert is_right(read_table(manifest).set_index("key"), folder, root)


def page(keys=(), token=None, prefix="jump/p/", truncated=None) -> bytes:
    """A page of a listing."""
    cut = truncated if truncated is not None else token is not None
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    contents = "".join(
        f'<Contents><Key>{key}</Key><Size>3</Size><ETag>"{"0" * 32}"</ETag></Contents>'
        for key in keys
    )
    return (
        f"<?xml version='1.0'?><ListBucketResult><Name>bucket</Name><Prefix>{prefix}</Prefix>"
        f"<IsTruncated>{str(cut).lower()}</IsTruncated>{following}{contents}</ListBucketResult>"
    ).encode()


@contextmanager
def pages(answer):
    """Serve what `answer` makes of the continuation token (None at first) of each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = answer(parse_qs(urlsplit(self.path).query).get("continuation-token", [None])[0])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda token: page(["jump/p/a"] if token is None else ["jump/p/b"], "same"), "same page"),
        (lambda token: page(["jump/p/a"], truncated=True), "does not name its next page"),
        (lambda token: page([], "more"), "nothing is on its page"),
        (lambda token: page(["jump/p/a"], f"{token}x"), "repeats itself"),
        (lambda token: page(["jump/q/a"]), "answer to another request"),
        (lambda token: page(["jump/p/a"], prefix="jump/q/"), "answer to another request"),
        (lambda token: page(["jump/p/a"]).replace(b"<Size>3</Size>", b""), "without a key or a size"),
        (lambda token: page(["jump/p/a"]).replace(b"<Size>3</Size>", b"<Size>x</Size>"), "listing|invalid"),
        (lambda token: b"neither XML nor a listing", "not the listing|status 500"),
        (lambda token: page([f"jump/p/{i}" for i in range(400_000)]), "has no end"),
    ],
)  # fmt: skip
def test_a_listing_that_is_none_is_told_in_a_sentence(answer, words, tmp_path):
    with pages(answer) as endpoint:
        gallery = hasty(endpoint, attempts=2, timeout=20)
        with pytest.raises(BrokenObject, match=words):
            list(gallery.entries("p"))
        index = make_plate(tmp_path / "plate", 1).assign(Key_DNA="p/a")
        with pytest.raises(UserError, match="did not list the images of source_3 0012: "):
            download_plate(
                gallery, index, ["DNA"], tmp_path / "a/b/0012", tmp_path / "m.parquet", 0.0
            )


def test_a_listing_without_end_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setattr(s3, "MOST_PAGES", 30)
    with (
        pages(
            lambda token: page([f"jump/p/{int(token or 0):09}"], int(token or 0) + 1)
        ) as endpoint,
        pytest.raises(
            UserError, match=r"The listing of s3://bucket/jump/p has no end: more than 30 pages; "
        ),
    ):
        list(hasty(endpoint).entries("p"))


@settings(derandomize=True, max_examples=60)
@given(content=st.binary(min_size=0, max_size=5000), length=st.integers(200, 6000))
def test_an_upload_in_parts_is_known_by_the_md5s_of_its_parts(tmp_path_factory, content, length):
    path = tmp_path_factory.getbasetemp() / "parts"
    path.write_bytes(content)
    parts = [content[at : at + length] for at in range(0, len(content), length)]
    whole = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coda.gallery.s3_requests.PART_LENGTHS", [length])
        etag = f"{whole}-{len(parts)}"
        if parts:
            assert has_parts(path, len(content), etag)
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            assert not has_parts(path, len(content), etag)


class InParts(LocalGallery):
    """A gallery of objects that only their sizes can be compared with."""

    def fetch(self, key, path, listed=None):
        content = (self.folder / key).read_bytes()
        path.write_bytes(content)
        return Fetched(
            len(content), f"{'0' * 32}-2", hashlib.md5(content).hexdigest(), 1, 0.0, "size"
        )


def test_what_only_its_size_can_be_compared_with_is_decoded(tmp_path):
    index = make_plate(tmp_path / "gallery", 4)
    path = tmp_path / "gallery" / index.Key_DNA[1]
    pixels = np.random.default_rng(0).integers(1, 999, (64, 64), dtype=np.uint16)
    tifffile.imwrite(path, pixels, compression="zlib")
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(100) + content[-100:])
    table, _ = download(InParts(str(tmp_path / "gallery")), index, tmp_path, max_lost=0.3)
    assert table.status[table.status != "ok"].to_dict() == {index.Key_DNA[1]: "broken"}
    assert set(table.checked) == {"size"}


DOWNLOAD = textwrap.dedent(
    """
    import signal, sys
    from pathlib import Path
    import pandas as pd
    from coda.gallery.download import download_plate
    from coda.gallery.s3 import S3Gallery
    endpoint, index, place = sys.argv[1:]
    gallery = S3Gallery("s3://bucket/jump", endpoint, timeout=300)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
    download_plate(gallery, pd.read_parquet(index), ["DNA"], Path(place) / "0012", Path(place) / "m.parquet", 0.0)
    """
)


@pytest.mark.parametrize("kind", ["timeout", "stall", "drip_header", "drip_error", "internal"])
def test_one_interrupt_ends_a_download_from_a_server_that_stalls(plates, tmp_path, kind):
    _, index, endpoint = plates
    index.to_parquet(tmp_path / "index.parquet")
    with faulty_server(endpoint, Faults(always={".tif": kind})) as server:
        words = [server.endpoint, tmp_path / "index.parquet", tmp_path / "images/source_3"]
        process = subprocess.Popen(
            [sys.executable, "-c", DOWNLOAD, *words],
            env=os.environ | {"PYTHONPATH": str(Path(s3.__file__).parents[2])},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        while len([request for request in server.requests if "?" not in request.key]) < 4:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]  # it stalls for 300 s
    assert process.returncode == -signal.SIGINT or b"KeyboardInterrupt" in told


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_links_images_are_copied(tmp_path, monkeypatch, error):
    index = make_plate(tmp_path / "gallery", 2)

    def refuse(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "symlink", refuse)
    table, folder = download(LocalGallery(str(tmp_path / "gallery")), index, tmp_path)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert is_right(table, folder, tmp_path / "gallery")


def test_what_others_put_among_unfinished_images_is_no_obstacle(plates, tmp_path):
    root, index, endpoint = plates
    partial = tmp_path / "images/source_3/0012.partial"
    (partial / "@eaDir").mkdir(parents=True)
    (partial / "@eaDir/thumbnail").write_bytes(b"x")
    lines = ["5", "[]", '{"file": 3}', '{"file": "A01_s1_DNA.tiff", "bytes": 9}', "null", "\x00"]
    (partial / "journal.jsonl").write_text("\n".join(lines))
    table, folder = download(hasty(endpoint), index, tmp_path)
    assert sorted(os.listdir(folder)) == sorted(table.file) and is_right(table, folder, root)
