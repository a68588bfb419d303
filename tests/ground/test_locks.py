"""One process at a time; that processes wait for each other is tested with what they do, downloads and trainings."""

import errno
import os
import subprocess
import sys

import pytest
from coda.errors import UserError
from coda.locks import alone, keep
from places import SCRIPTS


def test_the_lock_file_names_its_holder_and_goes_with_the_block(tmp_path):
    with alone(tmp_path / "folder/lock", "works here", patience=0):
        assert (tmp_path / "folder/lock").read_text().startswith(f"Process {os.getpid()} on ")
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(UserError, match="lock is a link, which is not followed"),
        alone(tmp_path / "lock", "works here", patience=0),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "content"


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_used_all_the_same(
    tmp_path, monkeypatch, capsys, answer
):
    def refuse(*_):
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr("fcntl.flock", refuse)
    with alone(tmp_path / "lock", "works here", patience=0):
        pass
    told = capsys.readouterr().out
    assert "cannot be locked" in told and "only one job works here" in told
    assert list(tmp_path.iterdir()) == []


def test_another_fault_is_not_taken_for_a_missing_lock(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(IsADirectoryError), alone(tmp_path / "lock", "works here", patience=0):
        pass


def test_a_lock_is_kept_until_its_process_ends(tmp_path):
    path = tmp_path / "results/.run.lock"
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from pathlib import Path\nfrom coda.locks import keep\n"
        f"keep(Path({str(path)!r}), 'writes to results')\nprint('kept', flush=True)\ninput()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"kept\n"
        with pytest.raises(UserError, match=f"Process {other.pid} on .* writes to results too"):
            keep(path, "writes to results")
        other.kill()
    keep(path, "writes to results")
