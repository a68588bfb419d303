"""Both galleries show the same, refuse what lies outside, and call each fault by its name."""

import hashlib
import os
import socket
import threading
import time

import pytest
from coda.errors import UserError
from coda.gallery.base import BrokenObject, GalleryDown, MissingObject, checked_key
from coda.gallery.local import LocalGallery
from coda.gallery.open import open_gallery
from coda.gallery.s3 import S3Gallery
from coda.gallery.s3_requests import private_session
from faulty_server import KINDS, Faults, faulty_server
from hypothesis import given, settings
from hypothesis import strategies as st
from s3_server import s3_server

SPACED = "source_3/images/CP59/images/BR1__2022-04-29T01_02_16-Measurement 1/Images"
KEYS = [
    f"{SPACED}/r01c01f01p01-ch3sk1fk1fl1.tiff",
    f"{SPACED}/r01c01f02p01-ch3sk1fk1fl1.tiff",
    "source_5/images/R/images/P01_ADM/P01_ADM_A01.tif",
    "odd/a+b &=?#%20é~'(x).csv",
    "odd-sibling/a",
    "odd/empty",
]
# The last two hold a random number and which attempt it is.
UNSIGNED = {"host", "accept-encoding", "user-agent", "amz-sdk-invocation-id", "amz-sdk-request"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A folder of buckets with the objects `KEYS`, and a thousand and more in one folder."""
    folder = tmp_path_factory.mktemp("buckets")
    for number, key in enumerate([*KEYS, *(f"many/{i:04d}" for i in range(1203))]):
        path = folder / "bucket/jump" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            b""
            if key.endswith("empty")
            else f"content {number} ".encode() * (1 + 3000 * (number < 3))
        )
    with s3_server(folder) as endpoint:
        yield folder / "bucket/jump", endpoint


def hasty(endpoint: str, **options) -> S3Gallery:
    """A gallery that waits for nothing long."""
    options = {"timeout": 0.5, "attempts": 4, "backoff": 0.01} | options
    return S3Gallery("s3://bucket/jump", endpoint, **options)


def test_both_galleries_list_and_read_the_same(bucket, tmp_path):
    folder, endpoint = bucket
    s3, local = open_gallery("s3://bucket/jump", endpoint), open_gallery(str(folder))
    for prefix in ("", "source_3", "source_3/images/CP59/images/", "odd", "many", "no", KEYS[0]):
        ours = list(s3.entries(prefix))
        assert [(entry.key, entry.bytes) for entry in ours] == [
            (entry.key, entry.bytes) for entry in local.entries(prefix)
        ]
        assert s3.folders(prefix) == local.folders(prefix)
    assert len(list(s3.entries("many"))) == 1203
    assert local.folders("") == ["many", "odd-sibling", "odd", "source_3", "source_5"]
    for number, key in enumerate(KEYS):
        content = (folder / key).read_bytes()
        assert s3.read(key) == local.read(key) == content
        fetched = s3.fetch(key, tmp_path / f"s3_{number}")
        assert (tmp_path / f"s3_{number}").read_bytes() == content
        assert fetched.bytes == len(content) and fetched.attempts == 1
        assert fetched.md5 == fetched.etag == hashlib.md5(content).hexdigest()
        assert local.fetch(key, tmp_path / f"local_{number}").bytes == len(content)
        assert (tmp_path / f"local_{number}").read_bytes() == content


def test_what_is_absent_is_missing(bucket, tmp_path):
    folder, endpoint = bucket
    for gallery in (open_gallery("s3://bucket/jump", endpoint), open_gallery(str(folder))):
        for key in ("nothing", "odd/nothing", KEYS[0] + "/below"):
            with pytest.raises(FileNotFoundError):
                gallery.read(key)
            with pytest.raises(MissingObject):
                gallery.fetch(key, tmp_path / "file")
            assert not os.path.lexists(tmp_path / "file")
    with pytest.raises(MissingObject):
        open_gallery(str(folder)).fetch("odd", tmp_path / "file")
    with pytest.raises(UserError, match=r"gallery\.root"):
        open_gallery("s3://another/jump", endpoint).read("x")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a/../../b", "..", "a/./b", "a//b", "a\\b", "a\0b", "a\nb", "a/"]
)
def test_keys_outside_the_gallery_are_refused(bucket, tmp_path, key):
    folder, endpoint = bucket
    for gallery in (open_gallery("s3://bucket/jump", endpoint), open_gallery(str(folder))):
        for use in (
            gallery.read,
            lambda key, gallery=gallery: gallery.fetch(key, tmp_path / "file"),
        ):
            with pytest.raises(UserError, match="refused"):
                use(key)
        with pytest.raises(UserError, match="refused"):
            list(gallery.entries("../" + key))


@settings(derandomize=True, max_examples=500)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="./\\a ~", max_size=12)))
def test_a_key_that_is_accepted_stays_below_the_root(key):
    root = "/mirror/jump"
    try:
        checked_key(key)
    except UserError:
        return
    assert os.path.normpath(os.path.join(root, key)) == f"{root}/{key}"


@pytest.mark.parametrize(
    "root", ["http://x/y", "s3://", "s3:///a", "/no/such/folder", "gs://bucket"]
)
def test_a_root_that_is_none_is_named(root):
    with pytest.raises(UserError, match=r"gallery\.root"):
        open_gallery(root)


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://x", "http://", "http://user:word@host"]
)
def test_an_endpoint_or_region_that_is_none_is_named(endpoint):
    with pytest.raises(UserError, match=r"gallery\.endpoint"):
        open_gallery("s3://bucket", endpoint)
    with pytest.raises(UserError, match=r"gallery\.region = not a region"):
        open_gallery("s3://bucket", region="not a region")


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "address"),
    [
        ("bucket", "us-east-1", None, "https://bucket.s3.us-east-1.amazonaws.com"),
        ("my.bucket", "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/my.bucket"),
        ("bucket", "us-east-1", "https://s3.example.org/x/", "https://s3.example.org/x/bucket"),
    ],
)
def test_addresses(monkeypatch, bucket, region, endpoint, address):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
        monkeypatch.setenv(name, "true")
    client = S3Gallery(f"s3://{bucket}", endpoint, region).client
    key = {"Bucket": bucket, "Key": "a b.tiff"}
    assert client.generate_presigned_url("get_object", key) == f"{address}/a%20b.tiff"


@pytest.mark.parametrize("kind", KINDS)
def test_a_passing_fault_is_survived_and_a_lasting_one_reported(bucket, tmp_path, kind):
    folder, endpoint = bucket
    listed = open_gallery("s3://bucket/jump", endpoint).listed(KEYS)
    with faulty_server(endpoint, Faults(rate=1.0, most=2, kinds=(kind,))) as server:
        fetched = hasty(server.endpoint).fetch(KEYS[0], tmp_path / "image", listed[KEYS[0]])
        assert (tmp_path / "image").read_bytes() == (folder / KEYS[0]).read_bytes()
        assert fetched.attempts == 3 == len(server.requests)
        content = hasty(server.endpoint).read(KEYS[1], listed[KEYS[1]])
        assert content == (folder / KEYS[1]).read_bytes()
    with faulty_server(endpoint, Faults(always={KEYS[0]: kind})) as server:
        with pytest.raises(BrokenObject, match="after 4 attempts") as caught:
            hasty(server.endpoint).fetch(KEYS[0], tmp_path / "image", listed[KEYS[0]])
        assert caught.value.attempts == 4 == server.counts[f"bucket/jump/{KEYS[0]}"]


@pytest.mark.parametrize(
    "kind", ["timeout", "reset", "slow_down", "internal", "blocked", "short", "portal"]
)
def test_listings_are_tried_again_and_a_gallery_that_fails_throughout_is_down(bucket, kind):
    _, endpoint = bucket
    with faulty_server(endpoint, Faults(always={"": kind})) as server:
        gallery = hasty(server.endpoint, timeout=0.2, patience=0.5, storm=0.5)
        if kind in ("short", "portal"):  # an answer, though a bad one
            with pytest.raises(BrokenObject):
                list(gallery.entries("odd"))
        else:
            with pytest.raises(GalleryDown, match="is down"):
                list(gallery.entries("odd"))
        server.faults.always.clear()
        assert len(list(hasty(server.endpoint).entries("odd"))) == 2


def test_nothing_listening_is_down_and_says_what_to_do():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(GalleryDown, match=r"gallery\.root.*gallery\.endpoint"):
            hasty(f"http://127.0.0.1:{closed.getsockname()[1]}", patience=0.3).read("x")


def test_silence_longer_than_patience_is_down_for_every_worker_at_once(bucket, tmp_path):
    _, endpoint = bucket
    ends = []

    def work(number: int) -> None:
        with pytest.raises(GalleryDown):
            gallery.fetch(KEYS[0], tmp_path / str(number))
        ends.append(time.monotonic())

    with faulty_server(endpoint, Faults(always={"": "timeout"})) as server:
        gallery = hasty(server.endpoint, attempts=1000, timeout=0.3, patience=0.5)
        start = time.monotonic()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ends) == 8 and max(ends) - start < 15
    assert len(server.requests) < 8 * 6


def test_a_redirect_is_told_and_not_followed(bucket):
    _, endpoint = bucket
    with faulty_server(endpoint, Faults(always={"": "redirect"})) as server:
        with pytest.raises(UserError, match=r"elsewhere\.example.*not followed"):
            hasty(server.endpoint).read(KEYS[0])
        assert len(server.requests) == 2  # a refusal is believed when it comes twice


def test_requests_are_unsigned_whatever_the_surroundings_hold(bucket, tmp_path, monkeypatch):
    _, endpoint = bucket
    with faulty_server(endpoint) as server, faulty_server(endpoint) as trap:
        (tmp_path / "credentials").write_text(
            "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = secret\n"
        )
        (tmp_path / "config").write_text(
            f"[default]\nendpoint_url = {trap.endpoint}\nregion = eu-west-1\n"
        )
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": "token",
            "AWS_PROFILE": "default",
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_ENDPOINT_URL": trap.endpoint,
            "AWS_ENDPOINT_URL_S3": trap.endpoint,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": trap.endpoint,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": trap.endpoint,
            "AWS_DEFAULTS_MODE": "auto",
            "AWS_BEARER_TOKEN_S3": "token",
            "AWS_MAX_ATTEMPTS": "9",
        }.items():
            monkeypatch.setenv(name, value)
        private_session.cache_clear()  # made anew in these surroundings
        gallery = open_gallery("s3://bucket/jump", server.endpoint)
        gallery.read(KEYS[0])
        gallery.fetch(KEYS[0], tmp_path / "image")
        list(gallery.entries("odd"))
    assert not trap.requests
    assert len(server.requests) == 3
    for request in server.requests:
        assert {name.lower() for name in request.headers} <= UNSIGNED
        told = [request.key, *request.headers.values()]
        assert not any(word in text for text in told for word in ("AKIA", "Signature", "token"))


def test_a_proxy_of_the_surroundings_is_used(bucket, monkeypatch):
    folder, endpoint = bucket
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with faulty_server(endpoint) as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        assert (
            open_gallery("s3://bucket/jump", endpoint).read(KEYS[2])
            == (folder / KEYS[2]).read_bytes()
        )
    assert [request.key for request in proxy.requests] == [f"{endpoint}/bucket/jump/{KEYS[2]}"]


def test_connections_are_kept(bucket, tmp_path):
    folder, endpoint = bucket
    with faulty_server(endpoint) as server:
        opened = []
        process_request = server.process_request
        server.process_request = lambda *arguments: (opened.append(1), process_request(*arguments))
        gallery = hasty(server.endpoint, timeout=10)
        for key in KEYS[:3] * 3:
            gallery.fetch(key, tmp_path / "image")
        with pytest.raises(MissingObject):
            gallery.read("nothing")
        gallery.read(KEYS[0])
    assert len(opened) <= 3  # an answer other than 200 costs its connection


def test_a_local_image_is_linked_and_the_gallery_outlives_the_link(bucket, tmp_path):
    folder, _ = bucket
    gallery = LocalGallery(str(folder))
    gallery.fetch(KEYS[0], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "link").unlink()
    assert (folder / KEYS[0]).exists()
