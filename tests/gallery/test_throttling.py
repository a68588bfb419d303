"""A gallery that throttles its readers loses no image; one behind a wall is said to be down within a minute."""

import hashlib

import pytest
from coda.errors import UserError
from coda.files import read_table
from coda.gallery.download import download_plate
from coda.gallery.s3 import S3Gallery
from faulty_server import faulty_server
from plates import make_plate, tiff
from s3_server import s3_server

CHANNELS = ["DNA", "ER"]


@pytest.fixture
def throttled(tmp_path):
    """A plate behind a server whose faults by key the test names: of which kind, and how many."""
    root = tmp_path / "buckets/bucket/jump"
    index, faults = make_plate(root, 10), {}
    with s3_server(tmp_path / "buckets") as endpoint, faulty_server(endpoint) as server:
        note = server.note

        def meet(key, headers, late):
            note(key, headers, late)
            kind, most = faults.get(key.removeprefix("bucket/jump/"), (None, 0))
            return kind if server.counts[key] <= most else None

        server.note = meet
        gallery = S3Gallery("s3://bucket/jump", server.endpoint, attempts=4, backoff=0.005)

        def fetch(max_lost, workers=4):
            folder, manifest = tmp_path / "images/s/0012", tmp_path / "0012.parquet"
            download_plate(gallery, index, CHANNELS, folder, manifest, max_lost, workers)
            return read_table(manifest).set_index("key"), folder

        yield root, index, faults, server, fetch


def test_what_faults_on_the_way_cost_is_asked_for_again_when_the_rest_has_arrived(throttled):
    root, index, faults, server, fetch = throttled
    slow, cut, lasting, absent, bad = (index.Key_DNA[number] for number in (0, 2, 4, 6, 8))
    faults |= {slow: ("slow_down", 6), cut: ("short", 4), lasting: ("flip", 1000)}
    (root / absent).unlink()
    (root / bad).write_bytes(tiff(1)[:99])
    table, folder = fetch(0.3)
    lost = {absent: "missing", bad: "broken", lasting: "broken"}
    assert table[table.status != "ok"].status.to_dict() == lost
    asked = {key: server.counts[f"bucket/jump/{key}"] for key in (slow, cut, lasting, absent, bad)}
    assert asked == {slow: 7, cut: 5, lasting: 8, absent: 0, bad: 1}
    assert table.attempts[list(asked)].to_dict() == asked
    for key in (slow, cut):
        content = (folder / table.file[key]).read_bytes()
        assert content == (root / key).read_bytes()
        assert table.md5[key] == hashlib.md5(content).hexdigest()
    order = [request.key.removeprefix("bucket/jump/") for request in server.requests]
    assert order.index(index.Key_ER[9]) < len(order) - 1 - order[::-1].index(slow)


def test_a_fault_that_does_not_pass_is_not_waited_for_at_every_object(throttled, capsys):
    _, index, faults, server, fetch = throttled
    faults |= dict.fromkeys(index.Key_DNA, ("short", 1000))
    with pytest.raises(UserError, match=r"loses 10 of 10 sites .*gallery\.max_lost"):
        fetch(0.1, workers=1)
    assert sum(server.counts[f"bucket/jump/{key}"] for key in index.Key_DNA) <= 10 * 4 + 2 * 4
    told = capsys.readouterr().err
    assert all(f"lost: {key} (" in told for key in index.Key_DNA)


@pytest.mark.parametrize("addresses", range(1, 9))
def test_a_wall_that_swallows_connections_is_told_within_a_minute(addresses):
    """A name of up to eight addresses is tried at each in turn, at every attempt: the sum, with the longest waits."""
    gallery = S3Gallery("s3://bucket/jump")
    attempt = addresses * gallery.client.meta.config.connect_timeout
    probe = addresses * gallery.prober.meta.config.connect_timeout
    seconds = attempts = 0
    while seconds <= gallery.patience and attempts < gallery.attempts:
        seconds += attempt + (gallery.backoff * 2 ** (attempts - 1) if attempts else 0)
        attempts += 1
    assert seconds + 2 * probe < 58
