"""Tables are fetched whole or not at all, from the web, a bucket or a folder."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from coda.errors import UserError
from coda.files import parse_table, read_table
from coda.gallery import public_tables as tables
from coda.gallery import web
from coda.gallery.public_tables import COLUMNS, fetch_table
from coda.gallery.s3 import S3Gallery
from places import ROOT
from s3_server import free_port, s3_server
from web_server import body, raw, status, web_server

SHARED = Path("../shared/data/metadata")
PLATES = (
    "Metadata_Source,Metadata_Batch,Metadata_Plate,Metadata_PlateType\n"
    "source_2,20210607_Batch_2,1053597806,TARGET2\n"
    "source_6,p210824,0110000293081,TARGET2\n"
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Keep the pauses between attempts, in effect nil, in a list."""
    pauses = []
    monkeypatch.setattr(tables.time, "sleep", pauses.append)
    return pauses


def test_local_table_keeps_ids_as_text(tmp_path):
    (tmp_path / "plate.csv.gz").write_bytes(gzip.compress(PLATES.encode()))
    fetch_table("plate", str(tmp_path / "plate.csv.gz"), tmp_path / "out" / "plate.parquet")
    table = read_table(tmp_path / "out" / "plate.parquet")
    assert table["Metadata_Plate"].tolist() == ["1053597806", "0110000293081"]
    assert list(table) == COLUMNS["plate"]


def test_comment_lines_latin_1_quotes_and_windows_line_ends_are_understood():
    text = '!Source\t"Hub, 2020"\r\n!URL\tx\r\npert_iname\tmoa\r\n"2,5-x"\tα\r\nb!c\t\r\n'
    table = parse_table(text.replace("α", "é").encode("latin-1"), "drugs_20200324.txt")
    assert table["pert_iname"].tolist() == ["2,5-x", "b!c"]
    assert table["moa"].isna().tolist() == [False, True]
    assert table["moa"][0] == "é"


def test_web_table_survives_a_faltering_server(tmp_path, no_pauses):
    answers = [status(503), status(429), body(PLATES.encode()[:40], 400), body(PLATES.encode())]
    with web_server(answers) as (address, asked):
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "plate.parquet")
    assert len(asked) == 4
    assert len(read_table(tmp_path / "plate.parquet")) == 2
    assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(no_pauses))


@pytest.mark.parametrize("code", ["RequestTimeout", "SlowDown", "RequestTimeTooSkewed"])
def test_a_table_survives_throttling_under_a_status_of_refusal(tmp_path, code):
    page = f"<Error><Code>{code}</Code></Error>".encode()
    refusal = raw(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
    error = body(b"<?xml version='1.0'?>" + page)
    with web_server([refusal, status(421), error, body(PLATES.encode())]) as (address, asked):
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "plate.parquet")
    assert len(asked) == 4 and len(read_table(tmp_path / "plate.parquet")) == 2


def test_attempts_are_bounded_and_what_was_there_stays(tmp_path):
    (tmp_path / "plate.csv").write_text(PLATES)
    with web_server([status(500)]) as (address, asked), pytest.raises(UserError) as told:
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "plate.csv", attempts=3)
    assert len(asked) == 3
    assert "tables.plate" in str(told.value) and address in str(told.value)
    assert (tmp_path / "plate.csv").read_text() == PLATES
    assert os.listdir(tmp_path) == ["plate.csv"]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (status(404), "404"),
        (status(403), "403"),
        (status(302, "http://localhost:9/plate.csv"), "another host"),
        (body(b"<!DOCTYPE html><html></html>"), "page"),
        (body(b"version https://git-lfs.github.com/spec/v1\n"), "pointer"),
        (body(b"a,b\n1,2\n"), "lacks the column(s) Metadata_Source"),
        (body(b""), "it is empty"),
    ],
)
def test_what_trying_again_cannot_mend_is_told_at_once(tmp_path, answer, word):
    with (
        web_server([answer]) as (address, asked),
        pytest.raises(UserError, match="tables.plate") as told,
    ):
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "plate.parquet")
    assert word in str(told.value)
    assert len(asked) == 1
    assert not os.listdir(tmp_path)


def test_redirect_on_the_same_host_is_followed(tmp_path):
    with web_server([status(302, "/new/plate.csv"), body(PLATES.encode())]) as (address, asked):
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "plate.parquet")
    assert asked == ["/plate.csv", "/new/plate.csv"]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("https://h.org/a.csv", "http://h.org/b.csv", "an unencrypted address"),
        ("https://h.org/a.csv", "https://i.org/a.csv", "another host"),
        ("https://h.org/a.csv", "https://h.org/b.csv", None),
        ("http://h.org/a.csv", "https://h.org/b.csv", None),
    ],
)
def test_a_redirect_off_the_host_or_off_encryption_is_not_followed(old, new, word):
    if word is None:
        assert tables.redirected(old, new) == new
    else:
        with pytest.raises(ValueError, match=f"redirects to {word}, {new}"):
            tables.redirected(old, new)


def test_the_bucket_of_a_table_is_in_the_region_of_the_config(tmp_path, monkeypatch):
    asked = []

    def open_gallery(folder, endpoint, region, **options):
        asked.append((folder, endpoint, region))
        raise FileNotFoundError

    monkeypatch.setattr(tables, "open_gallery", open_gallery)
    with pytest.raises(UserError, match=r"tables\.plate"):
        fetch_table("plate", "s3://mine/a/plate.csv", tmp_path / "t.parquet", region="eu-west-1")
    assert asked == [("s3://mine/a", None, "eu-west-1")]


def test_truncated_gzip_is_refused(tmp_path):
    (tmp_path / "plate.csv.gz").write_bytes(gzip.compress(PLATES.encode())[:-9])
    with pytest.raises(UserError, match="tables.plate"):
        fetch_table("plate", str(tmp_path / "plate.csv.gz"), tmp_path / "plate.parquet")


def test_server_that_is_down_and_file_that_is_not_there_are_named(tmp_path):
    address = f"http://127.0.0.1:{free_port()}/well.csv.gz"
    with pytest.raises(UserError, match="tables.well .*refused"):
        fetch_table("well", address, tmp_path / "well.parquet", attempts=2)
    with pytest.raises(UserError, match="tables.drugs .*no such file"):
        fetch_table("drugs", str(tmp_path / "none.txt"), tmp_path / "drugs.parquet")
    with pytest.raises(UserError, match="tables.drugs .*only https"):
        fetch_table("drugs", "ftp://host/drugs.txt", tmp_path / "drugs.parquet")


def test_bucket_is_read_without_credentials(tmp_path):
    (tmp_path / "bucket" / "tables").mkdir(parents=True)
    (tmp_path / "bucket" / "tables" / "plate.csv").write_text(PLATES)
    with s3_server(tmp_path) as endpoint:
        target = tmp_path / "plate.parquet"
        fetch_table("plate", "s3://bucket/tables/plate.csv", target, endpoint=endpoint)
        with pytest.raises(UserError, match="tables.plate"):
            fetch_table("plate", "s3://bucket/tables/none.csv", target, endpoint=endpoint)
    assert len(read_table(target)) == 2


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("plate", "plate.csv.gz", 2525),
        ("platemap", "JUMP-Target-2_compound_platemap.tsv", 384),
        ("target_compounds", "JUMP-Target-2_compound_metadata.tsv", 315),
        ("drugs", "repurposing_drugs_20200324.txt", 6798),
    ],
)
def test_real_tables(tmp_path, name, file, rows):
    if not (SHARED / file).exists():
        pytest.skip(f"the public table {SHARED / file} is not here")
    fetch_table(name, str(SHARED / file), tmp_path / "table.parquet")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert len(table) == rows
    assert all(pd.api.types.is_string_dtype(table[column]) for column in table)


CUT = PLATES.encode()[: PLATES.index("source_6")]  # a whole table, as far as it goes
START = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raw(START + b"\r\n" + CUT), "does not say how long it is"),
        (raw(b"HTTP/1.0 200 OK\r\n\r\n" + CUT), "does not say how long it is"),
        (raw(START + b"Content-Len"), "does not say how long it is"),
        (raw(b"HTTP/1.1 206 Part\r\nContent-Length: %d\r\n\r\n%s" % (len(CUT), CUT)), "206"),
        (
            raw(START + b"Content-Range: bytes 0-9/90\r\nContent-Length: %d\r\n\r\n%s" % (len(CUT), CUT)),
            "the whole of it",
        ),
        (raw(b"HTTP/1.1 204 Nothing\r\n\r\n"), "204"),
        (raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + START + b"\r\n" + CUT), "103"),
        (
            raw(START + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(CUT), CUT)),
            "cut off",
        ),
        (body(CUT, len(PLATES)), f"{len(CUT)} of {len(PLATES)} bytes arrived"),
        (raw(START + b"X-Long: ", endless=b"x"), "timed out"),
        (raw(START + b"Content-Length: 99999\r\n\r\n", endless=b"x"), "slower than|timed out"),
        (
            raw(START + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"10000\r\n%s\r\n" % bytes(1 << 16)),
            "more than 1,000,000 bytes arrived",
        ),
    ],
)  # fmt: skip
def test_a_table_that_arrives_in_part_or_without_end_is_none(tmp_path, monkeypatch, answer, words):
    monkeypatch.setattr(tables, "LARGEST", 1_000_000)
    timeout = 0.5 if "timed out" in words else 60
    with web_server([answer]) as (address, asked), pytest.raises(UserError, match=words):
        fetch_table(
            "plate", f"{address}/plate.csv", tmp_path / "p.parquet", attempts=2, timeout=timeout
        )
    assert len(asked) == 2 and not os.listdir(tmp_path)


def test_by_default_a_minute_of_errors_is_waited_for(tmp_path, no_pauses):
    with web_server([status(500)]) as (address, _), pytest.raises(UserError, match="HTTP 500"):
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "p.parquet")
    assert 60 < sum(no_pauses) < 300


def test_a_checksum_tells_another_table(tmp_path):
    whole = hashlib.sha256(PLATES.encode()).hexdigest()
    (tmp_path / "local.csv").write_text(PLATES)
    with web_server([body(PLATES.encode())]) as (address, _):
        for place in (f"{address}/plate.csv", str(tmp_path / "local.csv")):
            fetch_table("plate", f"{place}#sha256={whole}", tmp_path / "plate.parquet")
            with pytest.raises(
                UserError, match=f"not the one that was chosen .sha256 {whole}.*remove"
            ):
                fetch_table("plate", f"{place}#sha256={'0' * 64}", tmp_path / "plate.parquet")
    other = PLATES.replace("source_2", "source_9").encode()
    with web_server([body(other), body(PLATES.encode())]) as (address, _):
        fetch_table("plate", f"{address}/plate.csv#sha256={whole}", tmp_path / "plate.parquet")
    assert read_table(tmp_path / "plate.parquet").Metadata_Source[0] == "source_2"


def test_label_tables_are_pinned_to_the_published_files():
    pinned = yaml.safe_load((ROOT / "config/config.yaml").read_text())["tables"]
    for name in ("platemap", "target_compounds", "drugs"):
        place, _, checksum = pinned[name].partition("#sha256=")
        file = SHARED / place.rpartition("/")[2]
        if not file.exists():
            pytest.skip(f"the public table {file} is not here")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == checksum
        assert re.search("/[0-9a-f]{40}/|_20200324", place)


def test_a_dead_proxy_is_named_for_tables_and_images_without_its_password(tmp_path, monkeypatch):
    proxy = f"127.0.0.1:{free_port()}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://me:secret@{proxy}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for scheme in ("http", "https"):
        named = rf"by way of the proxy \S+{proxy} \(of {scheme}_proxy in the environment\).*refused"
        with pytest.raises(UserError, match=named) as told:
            fetch_table("well", f"{scheme}://example.org/a.csv", tmp_path / "w.parquet", attempts=1)
        assert "secret" not in str(told.value)
        gallery = S3Gallery("s3://bucket", f"{scheme}://example.org", attempts=1, patience=0.1)
        with pytest.raises(UserError, match=named.replace("refused", ".*refused")) as told:
            gallery.read("a")
        assert "secret" not in str(told.value)


def test_a_signature_in_an_address_is_not_told(tmp_path):
    with web_server([status(404)]) as (address, _), pytest.raises(UserError) as told:
        fetch_table(
            "plate", f"{address}/plate.csv?Signature=abc", tmp_path / "p.parquet", attempts=1
        )
    assert "Signature" not in str(told.value) and f"{address}/plate.csv" in str(told.value)


@pytest.fixture
def private(tmp_path):
    """A server with a certificate of its own, which holds a table, and lists and holds an object."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(
        [*command.split(), "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip

    def answer(handler):
        content = PLATES.encode()
        etag = hashlib.md5(content).hexdigest()
        handler.wfile.write(
            START + f'ETag: "{etag}"\r\nContent-Length: {len(content)}\r\n\r\n'.encode() + content
        )

    with web_server([answer], certificate, key) as (address, _):
        yield address.replace("127.0.0.1", "localhost"), certificate


def test_a_private_certificate_is_set_in_one_way_for_tables_and_images(
    tmp_path, monkeypatch, private
):
    address, certificate = private
    for name in web.CERTIFICATES:
        monkeypatch.delenv(name, raising=False)

    def table():
        fetch_table("plate", f"{address}/plate.csv", tmp_path / "plate.parquet", attempts=1)

    def image():
        assert (
            S3Gallery("s3://bucket", address, attempts=1, patience=0.1).read("a") == PLATES.encode()
        )

    for fetch in (table, image):
        with pytest.raises(
            UserError, match=r"certificate of localhost:\d+ is not trusted.*set SSL_CERT_FILE"
        ):
            fetch()
        for name in web.CERTIFICATES:
            monkeypatch.setenv(name, str(certificate))
            fetch()
            monkeypatch.setenv(name, str(tmp_path / "nowhere.pem"))
            with pytest.raises(
                UserError, match=rf"{name} is .*nowhere.pem, which is no file of certificates"
            ):
                fetch()
            monkeypatch.setenv(name, " ")
