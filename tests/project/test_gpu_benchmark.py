"""What is run when a GPU is at hand works: at toy size, with PyTorch, timm, pandas, pyarrow and safetensors alone."""

import contextlib
import copy
import importlib.metadata
import json
import math
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import gpu_rows
import pytest
import torch
from coda.training.networks import build_foundation
from coda.training.vit import cls_tokens
from places import ROOT
from torch.utils.flop_counter import FlopCounterMode

ALLOWED = ("torch", "timm", "pandas", "pyarrow", "safetensors")

# Imported by every Python that is started, so by the processes of the benchmark's parts too.
BLOCKING = """
import sys, filelock
from importlib.machinery import PathFinder


class Others:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] not in {blocked}:
            return PathFinder.find_spec(name, path, target)

    find_distributions = PathFinder.find_distributions


sys.meta_path[:] = [Others if finder is PathFinder else finder for finder in sys.meta_path]
vars(filelock).pop("lock_descriptor", None)  # of an older release, it has none
"""


def simple(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(names: tuple[str, ...]) -> set[str]:
    """Give distributions with all that they need, without extras."""
    found, ahead = set(), [*names]
    while ahead:
        name = simple(ahead.pop())
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            ahead += [re.match(r"[\w.-]+", each)[0] for each in requires if "extra ==" not in each]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """Make a folder for PYTHONPATH that takes every other package away."""
    kept = needed(ALLOWED)
    modules = importlib.metadata.packages_distributions()
    blocked = {
        module for module, owners in modules.items() if not kept & {simple(o) for o in owners}
    }
    assert {"snakemake", "scipy", "sklearn", "boto3", "jsonschema"} <= blocked
    assert not {"torch", "numpy", "filelock", "yaml"} & blocked
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(BLOCKING.format(blocked=sorted(blocked)))
    return folder


def python(bare: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(bare), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=bare, capture_output=True, text=True
    )


def test_other_packages_really_are_away(bare):
    done = python(bare, "-c", "import snakemake")
    assert done.returncode and "No module named 'snakemake'" in done.stderr


@pytest.fixture(scope="module")
def result(bare) -> dict:
    command = [str(ROOT / "benchmarks/gpu.py"), "--toy", "--parts", "all", "--out", "gpu.json"]
    done = python(bare, *command)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return json.loads((bare / "gpu.json").read_text())


def test_every_part_runs_small_on_a_cpu(result):
    parts = runpy.run_path(str(ROOT / "benchmarks/gpu.py"))["LIMITS"]
    assert result["parts"].keys() == parts.keys()
    for name, part in result["parts"].items():
        assert part["status"] == "done" and part["rows"], name
        assert all(math.isfinite(row["value"]) for row in part["rows"]), name
    about = result["about"]
    assert about["torch"] == torch.__version__ and re.fullmatch(r"[0-9a-f]{7,}", about["commit"])


def test_the_checks_hold_where_both_sides_are_the_same_processor(result):
    found = {
        row["name"]: row
        for name in ("checks", "two_processes", "harmonisation")
        for row in result["parts"][name]["rows"]
        if row["target"]
    }
    assert len(found) == 9
    assert all(row["met"] for row in found.values()), found
    assert found["8 steps, interrupted after 4, from 8 undisturbed"]["value"] == 0


def test_the_limits_fit_into_what_it_says():
    parts = runpy.run_path(str(ROOT / "benchmarks/gpu.py"))["PARTS"]
    worthiest = [*parts][:5]
    assert sum(parts[name] for name in worthiest) < 8 * 60


@pytest.fixture
def controller() -> dict:
    return runpy.run_path(str(ROOT / "benchmarks/gpu.py"))


def test_a_part_that_takes_too_long_keeps_its_rows_and_leaves_nothing_behind(controller, tmp_path):
    rows = controller["Rows"](tmp_path / "rows.jsonl")
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        f'open({str(rows.path)!r}, \'a\').write(\'{{"name": "a"}}\\n{{"na\')\n'
        "print('so far', flush=True)\n"
        "time.sleep(60)"
    )
    for seconds in (3, 12, 60):  # on a busy machine it takes a while to begin
        status, said = controller["within"]([sys.executable, "-c", program], seconds)
        if rows.read():
            break
    assert status == "out of time" and "so far" in said
    assert rows.read() == [{"name": "a"}]
    child = (tmp_path / "pid").read_text()
    until = time.monotonic() + 300  # a busy machine takes a while to end what was killed
    while runs(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not runs(child)


def runs(pid: str) -> bool:
    """Whether a process is there and not merely waited for."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


def test_a_part_that_fails_says_why(controller):
    status, said = controller["within"]([sys.executable, "-c", "raise ValueError('no luck')"], 30)
    assert status == "failed" and "no luck" in said


def test_it_refuses_to_measure_a_cpu(controller):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/gpu.py"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "--toy" in done.stderr


def real(result: dict) -> dict:
    """Give a toy's result in the shape of a real one."""
    about = result["about"] | {"changed_files": 0, "driver": "1.2.3", "device": "Chip"}
    result = copy.deepcopy(result) | {"toy": False, "about": about}
    for row in result["parts"]["training_128"]["rows"]:
        row["name"] = re.sub(r"batch \d+", "batch 128", row["name"])
    return result


def test_rows_of_the_table_come_from_a_result(result):
    rows = gpu_rows.rows_of([real(result)])
    values = {row["name"]: row["value"] for row in rows}
    ratio = values["end to end, batch 128"] / values["the usual way"]
    assert values["end to end over the usual way"] == pytest.approx(ratio, rel=1e-3)
    page = runpy.run_path(str(ROOT / "tools/benchmarks_readme.py"))
    assert rows[0].keys() == {"name", "value", "unit", "target", "met", "command", "machine"}
    assert f"commit {result['about']['commit']}" in rows[0]["machine"]
    assert callable(page["section"])


def test_toys_changed_files_and_other_commits_make_no_rows(result, tmp_path):
    with pytest.raises(ValueError, match="toy"):
        gpu_rows.rows_of([result])
    changed = real(result)
    changed["about"]["changed_files"] = 2
    with pytest.raises(ValueError, match="differ from their commit"):
        gpu_rows.rows_of([changed])
    unknown = real(result)
    unknown["about"]["commit"] = ""
    with pytest.raises(ValueError, match="--commit"):
        gpu_rows.rows_of([unknown])
    other = real(result)
    other["about"]["commit"] = "0000000"
    with pytest.raises(ValueError, match="differ in commit"):
        gpu_rows.rows_of([real(result), other])


@pytest.fixture(scope="module")
def parts() -> dict:
    return runpy.run_path(str(ROOT / "benchmarks/gpu_parts.py"))


def test_gelu_within_a_product_has_the_values_and_gradients_of_the_plain_network(parts):
    torch.manual_seed(0)
    plain = build_foundation(parts["TOY"]["model"], 3, 32).double()
    ours = copy.deepcopy(plain)
    parts["with_gelu_epilogues"](ours, torch.float64)
    views = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    results = []
    for network in (plain, ours):
        found = cls_tokens(network, views)
        found.square().sum().backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        results.append([found, *gradients])
    assert len(results[0]) > 20
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12)


def test_a_work_that_fails_does_not_keep_the_others(parts):
    done = []
    works = {"first": lambda: 1 / 0, "second": lambda: done.append("second")}
    with pytest.raises(RuntimeError, match="first: ZeroDivisionError"):
        parts["all_tried"](works)
    assert done == ["second"]


@pytest.mark.parametrize(
    "kernel, kind",
    [
        ("triton_per_fused__to_copy_add_native_layer_norm_addmm_7", "compiled elementwise"),
        ("triton_tem_fused_addmm_2", "matrix products"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_NNT", "matrix products"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128>>", "attention"),
        ("triton_tem_fused_flex_attention_0", "attention"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimiser"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("void at::native::reduce_kernel<512, 1>", "other norms and sums"),
        ("void something_else()", "other"),
    ],
)
def test_kernels_are_told_apart_by_their_names(parts, kernel, kind):
    assert parts["kind_of"](kernel).startswith(kind)


@pytest.mark.parametrize("side", [224, 96])
def test_flops_are_those_that_pytorch_counts(side):
    """Of the paper's network, without its memory: a tensor on the device meta has a shape alone."""
    training = runpy.run_path(str(ROOT / "benchmarks/training.py"))
    with torch.device("meta"):
        vit = build_foundation(training["PAPER"]["model"], 3, 224)
        view = torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        cls_tokens(vit, view)
    assert training["forward_flops"](training["PAPER"], side) == counter.get_total_flops()
    with FlopCounterMode(display=False) as plain:
        vit.forward_features(view)
    assert counter.get_total_flops() < 0.93 * plain.get_total_flops()
