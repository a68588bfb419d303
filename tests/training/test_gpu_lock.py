import fcntl
import os
import time
from types import SimpleNamespace

import pytest
import torch
from coda.errors import UserError
from coda.training.gpu_lock import claim, claim_gpus, lock_folder


def take(folder, count, results, over):
    taken = claim(["0", "1"], count, folder, pause=0.02)
    results.put((taken, time.monotonic()))
    over.wait()


@pytest.mark.slow
def test_jobs_at_once_get_different_devices_and_the_rest_wait(tmp_path, processes):
    results, over = processes.Queue(), processes.Event()
    jobs = [processes.Process(target=take, args=(tmp_path, 1, results, over)) for _ in range(3)]
    for job in jobs:
        job.start()
    (first, _), (second, _) = (results.get(timeout=600) for _ in range(2))
    freed = time.monotonic()
    over.set()
    third, later = results.get(timeout=600)
    for job in jobs:
        job.join()
    assert {*first, *second} == {"0", "1"}
    assert third[0] in ("0", "1") and later > freed


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / "0.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"0.lock cannot be used"):
        claim(["0"], 1, tmp_path)
    assert (tmp_path / "precious").read_text() == "content"


def test_a_killed_job_frees_its_devices(tmp_path, processes):
    results, never = processes.Queue(), processes.Event()
    job = processes.Process(target=take, args=(tmp_path, 2, results, never))
    job.start()
    assert results.get(timeout=600)[0] == ["0", "1"]
    job.kill()
    job.join()
    # A queue of its own: the killed process may have held the lock of the other one.
    results, over = processes.Queue(), processes.Event()
    over.set()
    second = processes.Process(target=take, args=(tmp_path, 2, results, over))
    second.start()
    assert results.get(timeout=600)[0] == ["0", "1"]
    second.join()


def test_a_process_that_asks_again_gets_what_it_has(tmp_path):
    first = claim(["0", "1"], 1, tmp_path, pause=0.02)
    assert claim(["0", "1"], 1, tmp_path, pause=0.02) == first
    assert sorted(claim(["0", "1"], 2, tmp_path, pause=0.02)) == ["0", "1"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_absent_is_told():
    with pytest.raises(UserError, match="profiles/cpu"):
        claim_gpus(1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_build_without_cuda_is_told(monkeypatch):
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(UserError, match="CPU build of PyTorch.*make setup TORCH=cuda"):
        claim_gpus(1)


@pytest.fixture
def visible(monkeypatch, tmp_path):
    """Let PyTorch see the GPUs of CUDA_VISIBLE_DEVICES, as a machine with many would show them."""

    def show(devices: str) -> None:
        names = devices.split(",")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(names))
        monkeypatch.setattr(
            "torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid=f"uuid-{names[n]}")
        )

    return show


@pytest.fixture
def other_job(tmp_path):
    """Another job's lock on a GPU, as long as the test lasts."""
    folder = tmp_path / f"coda_gpus_{os.getuid()}"
    folder.mkdir()
    with open(folder / "uuid-5.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_job_takes_what_its_scheduler_shows_it_and_no_other_job_has(visible, other_job):
    visible("5,2")
    assert claim_gpus(1) == (1,)
    with pytest.raises(UserError, match="sees 2"):
        claim_gpus(3)


def test_two_jobs_that_both_call_their_gpu_0_do_not_wait_for_each_other(visible, other_job):
    """Under control groups each job's own GPU has number 0, whichever it is."""
    visible("2")
    assert claim_gpus(1) == (0,)


def test_parts_of_one_gpu_are_different_devices(visible, monkeypatch):
    visible("MIG-a,MIG-b")
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid="same"))
    assert claim_gpus(2) == (0, 1)


def test_the_lock_folder_is_the_user_s_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = lock_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert lock_folder().stat().st_mode & 0o777 == 0o700


def test_a_lock_folder_prepared_by_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"coda_gpus_{os.getuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="not a folder of yours; remove it, or set TMPDIR"):
        lock_folder()
