import os
import platform
import re
import resource
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from coda.errors import UserError
from coda.logs import reported
from coda.training.compute import (
    Machine,
    derive_seed,
    explain_memory,
    fingerprint,
    has_bf16,
    seed_everything,
)
from coda.training.distributed import launch, run_ranks


def test_no_gpu_given_computes_on_the_cpu():
    compute = Machine(0, 1, "bf16", compile=True).compute()
    assert compute.device.type == "cpu" and not compute.compile


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_cpu_job_keeps_the_memory_that_tensors_free():
    """In a process of its own, since it holds for a whole process."""
    code = """
import resource, torch
from coda.training.compute import Machine
Machine(0, 1).compute()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    tensors = [torch.ones(2**21) for _ in range(20)]  # 160 MiB, all freed at the end
for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    pages = 5 * 160 * 2**20 // resource.getpagesize()
    assert int(done.stdout) < pages / 10


def test_precision_is_what_was_asked_for():
    x = torch.randn(4, 4)
    with Machine(0, 1, "bf16").compute().autocast():
        assert (x @ x).dtype == torch.bfloat16
    with Machine(0, 1, "fp32").compute().autocast():
        assert (x @ x).dtype == torch.float32


CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """Stand in for an x86 processor with the given instructions."""

    def with_instructions(*names: str, capability: str = "AVX512", limit: str | None = None):
        able = {"architecture": "x86_64"} | dict.fromkeys(names, True)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        told = lambda: "avx512_f" in names  # noqa: E731
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", told)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        if limit:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    return with_instructions


def test_bf16_is_taken_where_the_processor_has_it(processor):
    processor("avx512_f", "avx512_bf16")
    assert Machine(0, 1).compute().precision == "bf16"
    processor("avx512_f", "amx_bf16", limit="AVX512_CORE_AMX")
    assert has_bf16(CPU)
    processor("avx512_f")
    assert not has_bf16(CPU)
    processor("avx2", capability="AVX2")
    compute = Machine(0, 1).compute()
    assert compute.precision == "fp32" and compute.describe().endswith(", fp32 (auto)")


@pytest.mark.parametrize("told", [{"capability": "AVX2"}, {"limit": "AVX512_CORE"}])
def test_a_processor_told_to_behave_like_an_older_one_does(processor, told):
    processor("avx512_f", "avx512_bf16", **told)
    assert not has_bf16(CPU)


def test_a_gpu_that_only_emulates_bf16_does_not_have_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert not has_bf16(torch.device("cuda", 0))


def test_bf16_by_hand_on_a_processor_without_it_is_told_with_its_cost(processor, capsys):
    processor("avx2", capability="AVX2")
    compute = Machine(0, 1, "bf16").compute()
    assert compute.precision == "bf16" and compute.describe().endswith(", bf16")
    said = capsys.readouterr().out
    (factor,) = re.findall(r"takes (\S+) times as long as in fp32; set compute.precision", said)
    assert float(factor) > 0
    Machine(0, 1, "fp32").compute()
    assert capsys.readouterr().out == ""


def test_seeds_of_neighbours_are_unrelated():
    seeds = {derive_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 2) == derive_seed(1, 2) != derive_seed(2, 1)


def test_seeding_repeats():
    seed_everything(3, 4)
    first = torch.rand(5)
    seed_everything(3, 4)
    assert torch.equal(first, torch.rand(5))


def test_fingerprints_tell_settings_apart():
    assert fingerprint({"a": 1, "b": 2}, 3) == fingerprint({"b": 2, "a": 1}, 3)
    assert fingerprint({"a": 1}, 3) != fingerprint({"a": 1}, 4)


def add_ranks(rank, ranks, path):
    total = torch.tensor([float(rank + 1)])
    dist.all_reduce(total)
    (path / f"{rank}_of_{ranks}").write_text(str(total.item()))


@pytest.mark.slow
def test_ranks_work_together(tmp_path):
    run_ranks(add_ranks, 2, tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"0_of_2": "3.0", "1_of_2": "3.0"}


def test_one_gpu_or_none_needs_no_processes():
    seen = []
    launch(lambda rank, ranks, x: seen.append((rank, ranks, x)), 0, "x")
    launch(lambda rank, ranks, x: seen.append((rank, ranks, x)), 1, "y")
    assert seen == [(0, 1, "x"), (0, 1, "y")]


def fail(rank, ranks):
    if rank == 1:
        raise UserError("head.batch_norm is at fault.")
    dist.barrier()


def leave(rank, ranks):
    raise SystemExit(75)


def test_a_fault_of_the_user_in_one_rank_is_told_once():
    with pytest.raises(UserError, match="head.batch_norm is at fault"):
        run_ranks(fail, 2)


def test_the_status_of_a_preempted_rank_passes():
    with pytest.raises(SystemExit) as left:
        run_ranks(leave, 2)
    assert left.value.code == 75


def speak(rank, ranks):
    print(f"rank {rank} of {ranks} speaks", flush=True)
    dist.barrier()  # neither may leave while the other still joins


def test_what_ranks_say_reaches_the_log_of_the_job(tmp_path):
    with reported(str(tmp_path / "job.log")):
        print("before", flush=True)
        run_ranks(speak, 2)
        print("after", flush=True)
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    assert sorted(lines[1:-1]) == ["rank 0 of 2 speaks", "rank 1 of 2 speaks"]


def test_a_full_gpu_is_told_with_the_need_the_device_and_the_key(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda d: seen.append(d) or 10 * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (seen.append(d) or 2**29, 12 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: seen.append(d) or "Chip")
    device = torch.device("cuda", 3)
    message = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 3 has a total capacity of 12 GiB"
    with pytest.raises(UserError) as told, explain_memory(device, "lower classify.batch_size"):
        raise torch.cuda.OutOfMemoryError(message)
    words = str(told.value)
    assert (
        "Chip (cuda:3)" in words and "12.50 GiB were needed" in words and "12.00 GiB are" in words
    )
    assert words.endswith("lower classify.batch_size.") and set(seen) == {device}


def test_a_full_machine_is_told():
    told = pytest.raises(UserError, match=r"machine's memory.*at least [\d.]+ GiB.*lower it")
    with told, explain_memory(torch.device("cpu"), "lower it"):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_faults_are_not_taken_for_a_full_memory():
    with (
        pytest.raises(RuntimeError, match="shape"),
        explain_memory(torch.device("cpu"), "lower it"),
    ):
        raise RuntimeError("shape mismatch")


@pytest.mark.slow
def test_a_script_without_a_guard_is_not_run_again_by_its_ranks(tmp_path):
    """Snakemake's scripts use a name that only the first run of them has."""
    script = tmp_path / "script.py"
    script.write_text(
        "from coda.training.distributed import run_ranks\n"
        "from test_compute import add_ranks\n"
        "from pathlib import Path\n"
        "run_ranks(add_ranks, 2, Path(folder_of_the_first_run))\n"
    )
    code = f"__file__ = {str(script)!r}; folder_of_the_first_run = {str(tmp_path)!r}; exec(open(__file__).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "1_of_2").read_text() == "3.0"
