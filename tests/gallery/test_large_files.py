"""Large files go straight to the disk, whole or with a reason, from the web and from a bucket."""

import hashlib
import random
import tracemalloc

import pytest
from coda.gallery import public_tables
from coda.gallery.large_files import save_location
from coda.gallery.web import TemporaryError
from s3_server import s3_server
from web_server import body, raw, status, web_server

CONTENT = random.Random(0).randbytes(3_000_000)
SUM = hashlib.sha256(CONTENT).hexdigest()
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(public_tables.time, "sleep", lambda _: None)


def fetch(location, path, largest=1 << 23, seconds=60, **options):
    save_location(location, path, largest, seconds, **options)
    return path.read_bytes()


def test_a_file_survives_a_faltering_server_and_is_compared_with_its_checksum(tmp_path):
    answers = [status(503), body(CONTENT[:9], 99), body(CONTENT)]
    with web_server(answers) as (address, asked):
        assert fetch(f"{address}/pack.zip#sha256={SUM}", tmp_path / "pack") == CONTENT
        assert len(asked) == 3
        with pytest.raises(ValueError, match=f"another checksum .sha256 {SUM}"):
            fetch(f"{address}/pack.zip#sha256={'0' * 64}", tmp_path / "pack")


def test_a_redirect_to_another_host_is_followed_where_the_checksum_is_known(tmp_path):
    with web_server([body(CONTENT)]) as (elsewhere, asked):
        moved = status(302, f"{elsewhere}/moved.zip?key=1")
        with web_server([moved]) as (address, _):
            named = f"{address}/pack.zip"
            with pytest.raises(ValueError, match="redirects to another host"):
                fetch(named, tmp_path / "pack")
            assert fetch(f"{named}#sha256={SUM}", tmp_path / "pack") == CONTENT
    assert asked == ["/moved.zip?key=1"]


def test_a_file_is_not_held_in_memory(tmp_path):
    with web_server([body(CONTENT * 10)]) as (address, _):
        fetch(f"{address}/x", tmp_path / "warm", 1 << 26)
        tracemalloc.start()
        save_location(f"{address}/x", tmp_path / "x", 1 << 26, 60)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The server of the test sends it from what it holds already.
    assert most < len(CONTENT) * 5


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (body(CONTENT, 99_999_999), ValueError, "99,999,999 bytes, more than the 8,388,608 allowed"),
        (
            raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"10000\r\n%s\r\n" % bytes(1 << 16)),
            TemporaryError,
            "more than 8,388,608 bytes arrived",
        ),
        (body(CONTENT[:9], 99), TemporaryError, "9 of 99 bytes|cut off"),
        (status(404), ValueError, "HTTP 404"),
        (status(302, "http://localhost:9/x"), ValueError, "another host"),
    ],
)  # fmt: skip
def test_what_does_not_end_or_fit_is_told(tmp_path, answer, error, words):
    with web_server([answer]) as (address, _), pytest.raises(error, match=words):
        fetch(f"{address}/x", tmp_path / "x", attempts=2)


def test_the_time_of_all_attempts_is_bounded(tmp_path):
    with (
        web_server([body(CONTENT)]) as (address, asked),
        pytest.raises(ValueError, match="took longer than 0 minutes"),
    ):
        fetch(f"{address}/x", tmp_path / "x", seconds=0)
    assert len(asked) == 1


def test_a_file_comes_from_a_bucket_within_the_same_limits(tmp_path):
    (tmp_path / "served/packs").mkdir(parents=True)
    (tmp_path / "served/packs/pack.zip").write_bytes(CONTENT)
    where = "s3://packs/pack.zip"
    with s3_server(tmp_path / "served") as endpoint:
        named = f"{where}#sha256={SUM}"
        assert fetch(named, tmp_path / "pack", endpoint=endpoint) == CONTENT
        with pytest.raises(Exception, match="3,000,000 bytes are announced, not 1,000,000"):
            fetch(where, tmp_path / "x", largest=1_000_000, endpoint=endpoint, attempts=2)
        with pytest.raises(FileNotFoundError):
            fetch("s3://packs/none.zip", tmp_path / "x", endpoint=endpoint)


def test_other_addresses_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only https:// and s3://"):
        fetch("ftp://somewhere/pack.zip", tmp_path / "x")
