"""Nothing is unpickled, nothing of a table reaches a shell, and what is installed is pinned by its hash."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest
from audit import verdict
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

FOREIGN_CODE = """\
import os, pickle, subprocess
import pandas as pd, torch, yaml
from joblib import load
from pickle import loads
torch.load(path)
pd.read_pickle(path)
yaml.load(text, Loader=loader)
yaml.unsafe_load(text)
subprocess.run(text, shell=True)
subprocess.getoutput(text)
os.system(text)
os.popen(text)
eval(text)
exec(text)
"""


@pytest.mark.parametrize("folder", ["scripts", "tools", "benchmarks"])
def test_the_linter_refuses_what_runs_foreign_code(folder):
    """`make lint` applies these rules to all files; here they must find each of the lines."""
    command = ["-m", "ruff", "check", "--select", "S,TID251", "--output-format", "json"]
    done = subprocess.run(
        [sys.executable, *command, "--stdin-filename", f"{folder}/example.py", "-"],
        input=FOREIGN_CODE, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = {fault["location"]["row"] for fault in json.loads(done.stdout)}
    assert found == {1, *range(3, len(FOREIGN_CODE.splitlines()) + 1)}


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("scripts/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")],
    ids=lambda path: path.stem,
)
def test_no_array_or_table_is_pickled(path):
    """These are arguments and methods, of which the linter knows nothing."""
    assert not re.search(r"allow_pickle\s*=\s*(?!False)|\.to_pickle\(", path.read_text())


def test_rules_run_scripts_and_no_shell():
    for path in [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")]:
        assert not re.search(r"^\s*(shell|run):", path.read_text(), re.M), path.name


def test_weights_are_safetensors_only():
    library = "".join(path.read_text() for path in ROOT.glob("scripts/**/*.py"))
    assert not re.search(r"\.(pth|pt|pkl|ckpt|joblib)\b[\"']", library)


def read_lock(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """Read a lock: each package's pin with its hashes; a package may stand there once a platform."""
    entries: dict[str, tuple[Requirement, list[str]]] = {}
    for line in (ROOT / name).read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            pin, *hashes = line.split("--hash=sha256:")
            requirement = Requirement(pin.strip())
            if requirement.marker is None or requirement.marker.evaluate():
                entries[canonicalize_name(requirement.name)] = (requirement, hashes)
    return entries


LOCKS = {
    "requirements.lock": ["requirements.txt"],
    "requirements-dev.lock": ["requirements.txt", "requirements-dev.txt"],
    "requirements-nodeps.txt": ["requirements-nodeps.txt"],
}


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_installed_is_pinned_by_hash(lock):
    locked = read_lock(lock)
    for requirement, hashes in locked.values():
        assert re.match(r"==[^*]+$", str(requirement.specifier)), f"{requirement} in {lock}"
        assert hashes and all(re.fullmatch(r"[0-9a-f]{64}\s*", text) for text in hashes)
    for name in LOCKS[lock]:
        for line in re.findall(r"^[\w.-]+==[^\s\\]+", (ROOT / name).read_text(), re.M):
            wanted = Requirement(line)
            assert locked[canonicalize_name(wanted.name)][0].specifier == wanted.specifier, (
                f"{lock} is out of step with {name} ({wanted.name}); run make lock"
            )


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_is_complete(lock):
    locked = read_lock(lock)
    for name in locked:
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        for need in needs:
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in locked, f"{name} needs {need.name}"


def test_both_locks_agree():
    small, large = read_lock("requirements.lock"), read_lock("requirements-dev.lock")
    for name, (requirement, _) in small.items():
        assert large[name][0].specifier == requirement.specifier, name


@pytest.mark.parametrize("name", ["requirements-cpu.txt", "requirements-cpu.lock"])
def test_the_cpu_build_of_torch_is_of_the_version_locked(name):
    if not (ROOT / name).exists():
        pytest.skip("make lock writes it where PyTorch's own index can be reached")
    lines = (ROOT / name).read_text()
    assert "--index-url https://download.pytorch.org/whl/cpu\n" in lines
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", lines, re.M))
    locked = read_lock("requirements.lock")
    assert pins == {
        name: str(locked[name][0].specifier).removeprefix("==") + "+cpu"
        for name in ("torch", "torchvision")
    }


def test_an_audit_tells_faults_from_a_database_out_of_reach():
    clean = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    absent = {"name": "c", "skip_reason": "not found"}
    assert verdict(json.dumps({"dependencies": [clean, absent]}))[0] == 0
    status, text = verdict(json.dumps({"dependencies": [clean, bad, absent]}))
    assert status == 1 and "b 2: CVE-1, mended in 3" in text and "2 packages audited, 1" in text
    for report in ("", json.dumps({"dependencies": [absent]})):
        status, text = verdict(report)
        assert status == 0 and "NOT audited" in text
