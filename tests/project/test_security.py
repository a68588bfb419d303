"""Nothing is unpickled, nothing of a table reaches a shell, and what is installed is pinned by its hash."""

import ast
import json
import re
from importlib.metadata import PackageNotFoundError, requires

import pytest
from audit import verdict
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "torch.load",
    "pd.read_pickle", "pandas.read_pickle",
}  # fmt: skip


def faults(source: str) -> list[str]:
    """Name what `source` does that could run foreign code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        found += [name for name in names if name.split(".")[0] in FORBIDDEN_IMPORTS]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name in FORBIDDEN_CALLS or name.endswith(".to_pickle"):
                found.append(name)
            found += [
                f"{name}({key}=...)"
                for key in ("shell", "allow_pickle")
                if given.get(key, "False") != "False"
            ]
    return found


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("scripts/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")],
    ids=lambda path: path.stem,
)
def test_no_module_could_run_foreign_code(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from joblib import load", "torch.load(path)", "np.load(path, allow_pickle=True)",
     "subprocess.run(text, shell=True)", "os.system(text)", "yaml.load(text, Loader=L)", "eval(text)"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(line):
    assert faults(line)


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
    "requirements-deepprofiler.txt": ["requirements-deepprofiler.txt"],
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
