"""What a run leaves for others: an RO-Crate, which says of every result what made it, and a zip of both.

The metadata file follows RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) and the profile Workflow Run Crate 0.5
(https://w3id.org/ro/wfrun/workflow/0.5): one workflow, one run of it, what went in and what came out.
"""

import json
import mimetypes
import os
import shutil
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from coda.files import replacing
from coda.provenance import code_version, describe_machine, file_checksum, software_versions
from coda.training.checkpoints import read_header

METADATA = "ro-crate-metadata.json"
WORKFLOW = "provenance/workflow/Snakefile"
SETTINGS = "provenance/config.yaml"
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate 0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate 0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate 1.0",
}
KINDS = {
    "figures": "A figure, or the table behind it",
    "manifests": "The objects fetched for a plate, each with its key, size, checksum and status",
    "metadata": "The plates that took part, or the compounds with their mechanisms of action",
    "models": "What was measured during a training",
    "provenance": "Where the results come from",
    "quality": "What became of each site of a plate",
}
RIGHTS = (
    "Those who ran the workflow decide on the licence of their results. The workflow is under the MIT licence; images "
    "and tables come from the JUMP Cell Painting dataset, mechanisms of action from the Drug Repurposing Hub, "
    "whose terms allow non-commercial use."
)
# The earliest time that a zip can hold: the archive's bytes then depend on its files alone.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_provenance(
    folder: str | os.PathLike,
    config: dict[str, Any],
    weights: list[Path],
    workflow: list[Path],
    root: Path,
) -> None:
    """Write down what made the results.

    Parameters
    ----------
    folder
        Within the results. Gets ``config.yaml`` (resolved: it runs again as it is), ``machine.json``
        (code, software, hardware), ``models/`` (the header of every weights file with the file's
        checksum) and ``workflow/``.
    config
        The resolved config.
    weights
        Weights files among the results.
    workflow
        The files of the workflow, copied so that changes which were never committed are there too.
    root
        Folder of the workflow.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    machine = {"code": code_version(), "software": software_versions()}
    _write_json(folder / "machine.json", machine | {"hardware": describe_machine()})
    for path in weights:
        below = path.relative_to(folder.parent)
        made = {"file": below.as_posix(), "bytes": path.stat().st_size}
        made |= {"sha256": file_checksum(path, 64), "header": read_header(path)}
        _write_json(folder / below.with_suffix(".json"), made)
    for path in workflow:
        copy = folder / "workflow" / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")


def write_crate(path: str | os.PathLike, files: list[Path], config: dict[str, Any]) -> None:
    """Describe files of a run as an RO-Crate.

    Parameters
    ----------
    path
        The metadata file to make, in the folder that holds all of `files`.
    files
        What belongs to the crate; among them ``provenance/workflow/Snakefile``.
    config
        The resolved config: names the tables and plates that went in.
    """
    root = Path(path).parent
    names = sorted({file.relative_to(root).as_posix() for file in files})
    results = [name for name in names if not name.startswith("provenance/")]
    # Of the newest result, not of the clock: the same results are described by the same bytes.
    newest = max((root / name).stat().st_mtime for name in results)
    date = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
    inputs = _inputs(config)
    software = [
        {"@id": f"#{name}", "@type": "SoftwareApplication", "name": name, "version": version}
        for name, version in software_versions().items()
    ]
    graph = [
        *_frame(names, date),
        *_run(root, results, [one["@id"] for one in inputs], [one["@id"] for one in software], date),
        *software,
        *inputs,
        *[_file(root, name) for name in names if name != WORKFLOW],
    ]  # fmt: skip
    context = [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"@context": context, "@graph": graph}, indent=1) + "\n")


def _reference(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"@id": name} for name in names]


def _frame(names: list[str], date: str) -> list[dict[str, Any]]:
    """Make the entities that every crate has: of the metadata file, of the whole, of profiles and licence."""
    whole = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Results of the CODA workflow",
        "description": "Domain adaptation for Cell Painting: figures, tables, report, and where they come from.",
        "datePublished": date,
        "license": {"@id": "#rights"},
        "conformsTo": _reference(PROFILES),
        "hasPart": _reference(names),
        "mainEntity": {"@id": WORKFLOW},
        "mentions": {"@id": "#run"},
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": _reference([CRATE, "https://w3id.org/workflowhub/workflow-ro-crate/1.0"]),
        "about": {"@id": "./"},
    }
    rights = {"@id": "#rights", "@type": "CreativeWork", "name": "Rights", "description": RIGHTS}
    profiles = [
        {"@id": address, "@type": "CreativeWork", "name": name, "version": address.split("/")[-1]}
        for address, name in PROFILES.items()
    ]
    return [descriptor, whole, rights, *profiles]


def _run(
    root: Path, results: list[str], inputs: list[str], software: list[str], date: str
) -> list[dict[str, Any]]:
    """Make the entities of the workflow and of its run."""
    workflow = _file(root, WORKFLOW) | {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "CODA workflow",
        "description": "The workflow that made the results, as it was then.",
        "encodingFormat": "text/plain",
        "version": code_version(),
        "programmingLanguage": {"@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"},
        "softwareRequirements": _reference(software),
    }
    language = {
        "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": {"@id": "https://snakemake.readthedocs.io"},
        "url": {"@id": "https://snakemake.readthedocs.io"},
    }
    machine = describe_machine()
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": "Run of the CODA workflow",
        "description": "The machine that ended the run: "
        + ", ".join(f"{name} {value}" for name, value in machine.items())
        + "; what trained each network stands in provenance/models.",
        "endTime": date,
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "instrument": {"@id": WORKFLOW},
        "object": _reference([SETTINGS, *inputs]),
        "result": _reference(results),
    }
    return [workflow, language, run]


def _file(root: Path, name: str) -> dict[str, Any]:
    """Make the entity of a file: kind, size in bytes and checksum."""
    path = root / name
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "description": KINDS.get(name.split("/")[0], "A result of the whole run"),
        "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "contentSize": str(path.stat().st_size),
        "sha256": file_checksum(path, 64),
    }


def _inputs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the entities of what went in: the public tables and the gallery."""
    gallery = config["gallery"]["root"]
    described = {name: config["tables"][name] for name in config["tables"]}
    entities = {
        place: {"@id": _address(place), "@type": "CreativeWork", "name": f"Table of {name}"}
        for name, place in described.items()
    }
    entities[gallery] = {
        "@id": _address(gallery), "@type": "CreativeWork", "name": "Gallery of images",
        "description": "manifests/ names every object that was read.",
    }  # fmt: skip
    return list(entities.values())


def _address(place: str) -> str:
    """Give an address that may stand in a crate; a file's place on this machine only names it."""
    return place if "://" in place else f"#{place.replace(' ', '%20')}"


def pack_archive(archive: str | os.PathLike, crate: str | os.PathLike) -> None:
    """Zip a crate with the files that it describes; the same files give the same bytes.

    Parameters
    ----------
    archive
        The zip to make.
    crate
        The crate's metadata file.
    """
    crate = Path(crate)
    graph = {entity["@id"]: entity for entity in json.loads(crate.read_text())["@graph"]}
    names = [METADATA, *(part["@id"] for part in graph["./"]["hasPart"])]
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for name in sorted(names):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with (crate.parent / name).open("rb") as file, packed.open(entry, "w") as target:
                shutil.copyfileobj(file, target, 1 << 20)
