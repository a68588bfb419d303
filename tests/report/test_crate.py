"""The crate as another program reads it, and an archive whose bytes depend on its files alone."""

import hashlib
import json
import os
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
import yaml
from coda.report.crate import METADATA, WORKFLOW, pack_archive, write_crate, write_provenance
from coda.report.page import settings_table
from coda.training.checkpoints import save_weights
from rocrate.rocrate import ROCrate

CONFIG = {
    "gallery": {"root": "s3://bucket/prefix"},
    "tables": {"plate": "https://example.org/plate.csv.gz", "well": "own tables/well.csv"},
    "seeds": [1],
}


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder of results with a crate, made by a workflow of two files."""
    code = tmp_path / "workflow"
    (code / "rules").mkdir(parents=True)
    (code / "Snakefile").write_text("rule all: pass\n")
    (code / "rules/one.smk").write_text("# one\n")
    results = tmp_path / "results"
    (results / "figures").mkdir(parents=True)
    (results / "report.html").write_text("<!DOCTYPE html>")
    (results / "figures/accuracy.png").write_bytes(b"not a picture")
    (results / "figures/two words.csv").write_text("a\n1\n")
    weights = results / "models/source_1/seed_1/foundation.safetensors"
    save_weights(weights, {"w": torch.ones(2)}, {"code": "abc", "seed": 1})
    provenance = results / "provenance"
    write_provenance(
        provenance, CONFIG, [weights], [code / "Snakefile", code / "rules/one.smk"], code
    )
    files = [results / "report.html", *(results / "figures").iterdir()]
    files += [path for path in provenance.rglob("*") if path.is_file()]
    write_crate(results / METADATA, files, CONFIG)
    return results


def test_another_program_reads_the_crate(run):
    crate = ROCrate(run)
    files = {entity.id: entity for entity in crate.get_by_type("File")}
    assert {"report.html", "figures/accuracy.png", "provenance/config.yaml", WORKFLOW} <= set(files)
    for name, entity in files.items():
        content = (run / unquote(name)).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert int(entity["contentSize"]) == len(content)
    assert crate.mainEntity.id == WORKFLOW
    assert crate.mainEntity["programmingLanguage"]["name"] == "Snakemake"
    assert crate.root_dataset["license"]["description"]
    versions = {one["name"]: one["version"] for one in crate.mainEntity["softwareRequirements"]}
    assert versions["torch"] == version("torch")


def test_the_run_names_what_went_in_and_what_came_out(run):
    action = ROCrate(run).dereference("#run")
    assert action["instrument"].id == WORKFLOW
    assert {one.id for one in action["result"]} == {
        "report.html", "figures/accuracy.png", "figures/two%20words.csv"
    }  # fmt: skip
    names = {one.id for one in action["object"]}
    assert {"s3://bucket/prefix", "https://example.org/plate.csv.gz", "#own%20tables/well.csv",
            "provenance/config.yaml"} == names  # fmt: skip
    assert "processor" in action["description"]


def test_every_reference_leads_somewhere(run):
    graph = json.loads((run / METADATA).read_text())["@graph"]
    known = [entity["@id"] for entity in graph]
    assert len(known) == len(set(known))

    def referred(value):
        if isinstance(value, dict):
            yield from [value["@id"]] if set(value) == {"@id"} else referred(list(value.values()))
        elif isinstance(value, list):
            for inner in value:
                yield from referred(inner)

    outside = {name for name in referred(graph) if name not in known}
    assert all(name.startswith("https://") for name in outside), outside


def test_provenance_holds_config_headers_and_code(run):
    folder = run / "provenance"
    assert yaml.safe_load((folder / "config.yaml").read_text()) == CONFIG
    model = json.loads((folder / "models/source_1/seed_1/foundation.json").read_text())
    weights = (run / model["file"]).read_bytes()
    assert model["sha256"] == hashlib.sha256(weights).hexdigest()
    assert model["header"] == {"code": "abc", "seed": 1}
    assert (folder / "workflow/rules/one.smk").read_text() == "# one\n"
    machine = json.loads((folder / "machine.json").read_text())
    assert machine["software"]["numpy"] and machine["hardware"]["cores"]


def test_the_archive_is_the_crate_and_the_same_bytes_again(run, tmp_path):
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    pack_archive(first, run / METADATA)
    for path in run.rglob("*"):
        os.chmod(path, 0o755)
    pack_archive(second, run / METADATA)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        packed.extractall(tmp_path / "unpacked")
    assert not [name for name in names if name.endswith(".safetensors")]
    crate = ROCrate(tmp_path / "unpacked")
    parts = {unquote(part.id) for part in crate.root_dataset["hasPart"]}
    assert parts == {*names} - {METADATA}


def test_the_same_results_give_the_same_crate(run):
    before = (run / METADATA).read_bytes()
    graph = json.loads(before)["@graph"]
    files = [run / unquote(entity["@id"]) for entity in graph if "contentSize" in entity]
    for path in (run / "provenance").rglob("*"):
        os.utime(path, (2e9, 2e9))  # it is written anew before each crate
    write_crate(run / METADATA, files[::-1], CONFIG)
    assert (run / METADATA).read_bytes() == before


def test_the_code_version_is_of_this_workflow_alone(tmp_path):
    from coda.provenance import code_version

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    copy = tmp_path / "workflow"
    copy.mkdir()
    for folder in (tmp_path, copy):
        (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert code_version(copy) == "release 1.2.3"
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    assert code_version(copy) == "release 1.2.3"  # the repository around it is another's
    commit = code_version(tmp_path)
    assert len(commit) == 12
    (tmp_path / "pyproject.toml").write_text("")
    assert code_version(tmp_path) == f"{commit}+changes"


def test_no_secret_of_an_address_leaves_the_machine(tmp_path, run):
    config = CONFIG | {"tables": {"plate": "https://me:word@h/plate.csv?X-Amz-Signature=ab12cd"}}
    provenance, code = run / "provenance", tmp_path / "workflow"
    weights = tmp_path / "results/models/source_1/seed_1/foundation.safetensors"
    save_weights(weights, {"w": torch.ones(2)}, {"inputs": "https://h/t?sig=ab12cd"})
    write_provenance(provenance, config, [weights], [code / "Snakefile"], code)
    files = [path for path in provenance.rglob("*") if path.is_file()]
    write_crate(run / METADATA, [run / "report.html", *files], config)
    said = [path.read_text() for path in [run / METADATA, *provenance.rglob("*")] if path.is_file()]
    assert any("X-Amz-Signature=..." in text for text in said)
    assert not any("ab12cd" in text or "me:word" in text for text in said)
    assert settings_table(config).loc[:, "value"].str.contains("ab12cd|word").sum() == 0
