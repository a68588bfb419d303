"""Packs as files: what is cut, altered, hostile or of another kind is refused in a sentence."""

import http.server
import json
import os
import random
import socket
import threading
import zipfile
from functools import partial

import pytest
import yaml
from coda.errors import UserError
from coda.gallery import public_tables
from coda.predict import pack_files
from coda.predict.pack_files import (
    DESCRIPTION,
    FILES,
    check_pixel_size,
    describe,
    lay_over,
    open_pack,
    verify,
    write_description,
    zip_pack,
)
from places import CONFIG
from web_server import body, status, web_server

SCHEMA = yaml.safe_load((CONFIG / "schema.yaml").read_text())
SETTINGS = {
    "channels": ["DNA", "ER"],
    "crops": {"kind": "centre", "size": 64},
    "model": {"architecture": "vit", "options": {"depth": 1}},
    "head": {"hidden": 32},
    "views": {"global_size": 32},
    "classify": {"depth": 2},
    "adapt": {"epochs": 3},
    "data": {"wells": "labelled"},
    "harmonise": {"cap": 4},
}
DESCRIBED = {
    "source": "source_5", "seed": 1, "classes": ["a", "b"], "channels": ["DNA", "ER"], "um_per_pixel": 0.6,
    "settings": SETTINGS,
}  # fmt: skip


@pytest.fixture
def pack(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for number, name in enumerate(FILES.values()):
        (folder / name).write_bytes(bytes([number]) * (10 + number))
    write_description(folder, DESCRIBED)
    return folder


def test_a_pack_is_described_and_whole(pack):
    assert describe(pack)["classes"] == ["a", "b"]
    assert verify(pack)["files"].keys() == set(FILES.values())
    assert open_pack(str(pack), pack.parent / "unused") == pack


def test_a_zip_is_the_same_bytes_each_time_and_the_same_pack(pack, tmp_path):
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    zip_pack(pack, first)
    for name in FILES.values():
        (pack / name).touch()
    zip_pack(pack, second)
    assert first.read_bytes() == second.read_bytes()
    folder = open_pack(str(first), tmp_path / "results/pack")
    assert {path.name for path in folder.iterdir()} == {DESCRIPTION, *FILES.values()}
    assert all(
        (folder / name).read_bytes() == (pack / name).read_bytes() for name in FILES.values()
    )
    marked = folder / FILES["card"]
    before = marked.stat().st_mtime_ns
    assert open_pack(str(first), folder) == folder and marked.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", FILES.values())
def test_any_file_that_is_missing_cut_or_altered_is_named(pack, name):
    path, content = pack / name, (pack / name).read_bytes()
    for wrong in (content[:-1], bytes([content[0] ^ 1]) + content[1:], content + b"x"):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=name):
            verify(pack)
    path.unlink()
    with pytest.raises(UserError, match=name):
        verify(pack)


def test_mutations_of_the_description_never_pass_as_another_pack(pack):
    text, draw = (pack / DESCRIPTION).read_bytes(), random.Random(0)
    for _ in range(200):
        mutated = bytearray(text)
        mutated[draw.randrange(len(text))] = draw.randrange(256)
        (pack / DESCRIPTION).write_bytes(mutated)
        try:
            described = verify(pack)
        except UserError:
            continue
        # What is left can only concern what no file depends on.
        assert described["files"] == json.loads(text)["files"]


def test_what_is_no_pack_is_refused(tmp_path, pack):
    for address, words in (
        (tmp_path / "gone", "no such folder"),
        (tmp_path, f"has no {DESCRIPTION}"),
    ):
        with pytest.raises(UserError, match=words):
            describe(open_pack(str(address), tmp_path / "x"))
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match="no pack, or is broken"):
        open_pack(str(tmp_path / "text.zip"), tmp_path / "x")
    zip_pack(pack, tmp_path / "cut.zip")
    content = (tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="no pack, or is broken"):
        open_pack(str(tmp_path / "cut.zip"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.fixture(params=["pipe", "socket", "device"])
def make_strange(request):
    """Put what is neither a file nor a folder in a place; reading the pipe would wait for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        yield {
            "pipe": os.mkfifo,
            "socket": lambda path: listener.bind(os.path.relpath(path)),
            "device": lambda path: path.symlink_to("/dev/zero"),
        }[request.param]


@pytest.mark.parametrize("name", [DESCRIPTION, FILES["foundation"], FILES["card"]])
def test_pipes_sockets_and_devices_are_refused_and_never_read(
    pack, monkeypatch, make_strange, name
):
    monkeypatch.chdir(pack)  # paths of sockets are short
    (pack / name).unlink()
    make_strange(pack / name)
    with pytest.raises(UserError, match=f"{name} is a pipe, a socket or a device"):
        verify(pack)
    with pytest.raises(UserError, match=f"{name} is a pipe, a socket or a device"):
        open_pack(str(pack / name), pack / "unpacked")


def test_another_version_names_both(pack):
    said = json.loads((pack / DESCRIPTION).read_text()) | {"version": 7}
    (pack / DESCRIPTION).write_text(json.dumps(said))
    with pytest.raises(UserError, match="version 7, and this release reads version 1"):
        describe(pack)


def test_files_that_a_pack_does_not_have_never_leave_the_zip(pack, tmp_path):
    path = tmp_path / "hostile.zip"
    zip_pack(pack, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../escaped.txt", "x")
        archive.writestr("/tmp/escaped-absolute.txt", "x")
        archive.writestr("more.txt", "x")
    folder = open_pack(str(path), tmp_path / "a/b/pack")
    assert {entry.name for entry in folder.iterdir()} == {DESCRIPTION, *FILES.values()}
    assert not list(tmp_path.rglob("escaped*"))


def test_a_zip_that_lies_about_a_file_is_refused(pack, tmp_path):
    (pack / FILES["card"]).write_text("altered")
    zip_pack(pack, tmp_path / "altered.zip")
    with pytest.raises(UserError, match=FILES["card"]):
        open_pack(str(tmp_path / "altered.zip"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_pack_comes_from_a_web_address_once(pack, tmp_path):
    zip_pack(pack, tmp_path / "pack.zip")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/pack.zip"
        folder = open_pack(address, tmp_path / "results/pack")
        with pytest.raises(UserError, match="could not be fetched"):
            open_pack(address.replace("pack.zip", "none.zip"), tmp_path / "other/pack")
        server.shutdown()
    assert verify(folder)["source"] == "source_5"
    assert open_pack(address, tmp_path / "results/pack") == folder  # the server is gone


def test_the_pack_completes_a_config():
    config = {
        "target_sources": ["mine"], "sources": {"mine": {"um_per_pixel": 0.7, "validation_plate": "P1"}},
        "crops": {"min_sites": 5}, "adapt": {"epochs": 9}, "channels": ["DNA"],
    }  # fmt: skip
    lay_over(config, DESCRIBED, SCHEMA, usual=["DNA"])
    assert config["channels"] == ["DNA", "ER"] and config["train_sources"] == ["pack"]
    assert config["crops"] == {"kind": "centre", "size": 64, "min_sites": 5}
    assert config["data"] == {"wells": "treated"}  # a plate without labels has no labelled wells
    assert config["adapt"] == {"epochs": 9} and config["harmonise"] == {"cap": 4}
    assert config["sources"]["mine"]["validation_plate"] is None


def test_settings_that_the_networks_do_not_fit_are_refused():
    config = {"views": {"global_size": 224}, "sources": {}}
    with pytest.raises(UserError, match="views.global_size is 224.*trained with 32"):
        lay_over(config, DESCRIBED, SCHEMA)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, "spelt as in target_sources"),
        (0.2, "too far"),
        (1.3, "too far"),
        ("0,65", "with a point"),
    ],
)
def test_pixels_of_another_magnification_are_refused(size, words):
    with pytest.raises(UserError, match=words):
        check_pixel_size(size, DESCRIBED, "mine")
    check_pixel_size(0.65, DESCRIBED, "mine")


@pytest.mark.parametrize("given", [["DNA"], ["ER", "DNA"], ["DNA", "ER", "Mito"]])
def test_other_channels_than_the_packs_are_refused(given):
    with pytest.raises(UserError, match="the pack reads DNA, ER"):
        lay_over({"channels": given, "sources": {}}, DESCRIBED, SCHEMA)
    # Those of the paper's config stand there unasked.
    lay_over(config := {"channels": given, "sources": {}}, DESCRIBED, SCHEMA, usual=given)
    assert config["channels"] == ["DNA", "ER"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(404), "refuses it .HTTP 404"),
        (body(b"PK", 9_000_000_000), "9,000,000,000 bytes, more than the 8,589,934,592 allowed"),
        (body(b"no zip"), "is no pack, or is broken"),
        (body(b"PK", 9), "2 of 9 bytes|cut off"),
    ],
)
def test_what_does_not_arrive_is_told_in_a_sentence_and_leaves_nothing(
    tmp_path, monkeypatch, answer, words
):
    monkeypatch.setattr(public_tables.time, "sleep", lambda _: None)
    with web_server([answer]) as (address, _), pytest.raises(UserError, match=words) as told:
        open_pack(f"{address}/pack.zip?key=secret", tmp_path / "results/mine/pack")
    assert f"{address}/pack.zip" in str(told.value) and "secret" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_pack_of_another_version_or_altered_is_named_by_its_address(pack, tmp_path):
    said = json.loads((pack / DESCRIPTION).read_text()) | {"version": 2, "code": "0.9.0"}
    (pack / DESCRIPTION).write_text(json.dumps(said))
    zip_pack(pack, path := tmp_path / "pack.zip")
    (tmp_path / "kept").mkdir()
    with web_server([body(path.read_bytes())]) as (address, _):
        with pytest.raises(UserError) as told:
            open_pack(f"{address}/pack.zip", tmp_path / "kept/pack")
        assert str(told.value) == (
            f"{address}/pack.zip/pack.json is a pack of version 2, and this release reads version 1; make "
            "the pack again with `snakemake pack`, or use the release that made it, 0.9.0."
        )
        checksum = "0" * 64
        with pytest.raises(UserError, match="has another checksum .sha256 "):
            open_pack(f"{address}/pack.zip#sha256={checksum}", tmp_path / "kept/pack")
    assert not list((tmp_path / "kept").iterdir())


def test_a_zip_that_grows_without_end_is_refused(pack, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES.values():
            archive.write(pack / name, name)
        archive.writestr(DESCRIPTION, " " * (pack_files.LARGEST_DESCRIPTION + 1))
    with pytest.raises(UserError, match="would unpack to .* bytes; it is no pack"):
        open_pack(str(tmp_path / "bomb.zip"), tmp_path / "x/pack")
    assert not (tmp_path / "x").exists()


def test_settings_of_another_release_are_left_out_or_refused(capsys):
    settings = {**SETTINGS, "adapt": {"epochs": 3, "long_gone": 1}}
    del settings["harmonise"]
    config = {"sources": {}}
    lay_over(config, DESCRIBED | {"settings": settings}, SCHEMA)
    assert config["adapt"] == {"epochs": 3} and config["harmonise"] == {}
    assert "adapt.long_gone that this release does not know" in capsys.readouterr().err
    settings["head"] = {"hidden": 32, "long_gone": 1}
    with pytest.raises(
        UserError, match="trained with head.long_gone, which this release does not have"
    ):
        lay_over({"sources": {}}, DESCRIBED | {"settings": settings}, SCHEMA)


@pytest.mark.parametrize("name", [DESCRIPTION, FILES["card"]])
def test_a_zip_that_grows_a_thousandfold_is_not_unpacked(pack, tmp_path, monkeypatch, name):
    monkeypatch.setattr("coda.predict.pack_files.LARGEST_DESCRIPTION", 1 << 16)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for each in (DESCRIPTION, *FILES.values()):
            archive.writestr(each, bytes(1 << 23) if each == name else (pack / each).read_bytes())
    with pytest.raises(UserError, match="would unpack to 8,"):
        open_pack(str(tmp_path / "bomb.zip"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_damaged_zips_are_refused_in_a_sentence(pack, tmp_path):
    """Stored, deflated and by LZMA, whose errors are of types of their own."""
    draw, refused = random.Random(4), 0
    for number in range(240):
        with zipfile.ZipFile(tmp_path / "x.zip", "w", (0, 8, 14)[number % 3]) as archive:
            for name in (DESCRIPTION, *FILES.values()):
                archive.writestr(name, (pack / name).read_bytes())
        content = bytearray((tmp_path / "x.zip").read_bytes())
        for _ in range(3):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / "x.zip").write_bytes(content)
        try:
            verify(open_pack(str(tmp_path / "x.zip"), tmp_path / f"{number}/pack"))
        except UserError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"um_per_pixel": 10**400}, "um_per_pixel"),
        ({"um_per_pixel": "0.6"}, "um_per_pixel"),
        ({"um_per_pixel": 0}, "um_per_pixel"),
        ({"um_per_pixel": float("nan")}, "NaN"),
        ({"classes": [1, 2]}, "classes"),
        ({"channels": []}, "channels"),
        ({"channels": ["ER", "DNA"]}, "settings"),
        ({"settings": []}, "settings"),
        ({"settings": SETTINGS | {"views": None}}, "settings"),
        ({"settings": {"channels": ["DNA", "ER"]}}, "settings"),
    ],
)
def test_what_cannot_be_is_not_believed(pack, change, words):
    (pack / DESCRIPTION).write_text(
        json.dumps(json.loads((pack / DESCRIPTION).read_text()) | change)
    )
    with pytest.raises(UserError, match=words):
        verify(pack)


def test_brackets_without_end_are_told_in_a_sentence(pack):
    (pack / DESCRIPTION).write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        verify(pack)


def test_what_lies_in_the_place_of_a_pack_gives_way_and_what_a_link_points_to_stays(pack, tmp_path):
    zip_pack(pack, tmp_path / "pack.zip")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "link").symlink_to(precious)
    verify(open_pack(str(tmp_path / "pack.zip"), tmp_path / "link"))
    assert (precious / "file").exists() and not (tmp_path / "link").is_symlink()
    (tmp_path / "half").mkdir()  # as a copy that was cut off leaves it
    verify(open_pack(str(tmp_path / "pack.zip"), tmp_path / "half"))


def test_a_password_in_an_address_is_not_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("coda.gallery.public_tables.read_location", lambda *_, **__: b"no zip")
    with pytest.raises(UserError) as told:
        open_pack("https://me:secret@host/p.zip?X-Amz-Signature=secret", tmp_path / "pack")
    assert "secret" not in capsys.readouterr().err + str(told.value)
