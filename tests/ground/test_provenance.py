import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from coda.crops.store import crops_checksum
from coda.errors import UserError
from coda.provenance import describe_run, file_checksum
from places import SCRIPTS


def test_a_run_is_described_by_all_that_makes_it():
    described = describe_run({"epochs": 3}, 7, torch.device("cpu"), {"a": "b"})
    assert described["settings"] == {"epochs": 3} and described["seed"] == 7
    assert described["software"]["torch"] == version("torch")
    assert described["device"].startswith("CPU") and described["inputs"] == {"a": "b"}
    assert described["code"]


def test_the_ground_floor_is_imported_without_torch():
    """It takes seconds to import, and many scripts compute nothing."""
    scripts = SCRIPTS
    modules = ", ".join(f"coda.{path.stem}" for path in (scripts / "coda").glob("[!_]*.py"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=scripts, check=False).returncode == 0


def test_crops_checksums_tell_versions_apart(tiny_plates, tmp_path):
    first, second = (crops_checksum(path) for path in tiny_plates[:2])
    assert first != second
    copy = tmp_path / "copy.arrow"
    shutil.copy(tiny_plates[0], copy)
    assert crops_checksum(copy) == first
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    altered = tmp_path / "altered.arrow"
    altered.write_bytes(content)
    with pytest.raises(UserError, match="checksum differs"):
        crops_checksum(altered)


def test_file_checksum_is_sha256(tmp_path):
    import hashlib

    (tmp_path / "x").write_bytes(b"abc")
    assert file_checksum(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()[:16]
