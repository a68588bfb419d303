"""What a run leaves for others: an RO-Crate, which says of every result what made it, and a zip of both.

The metadata follow RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) and the profile Workflow Run Crate 0.5
(https://w3id.org/ro/wfrun/workflow/0.5): one workflow, one run of it, its inputs and its outputs.
"""

import json
import mimetypes
import os
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from rocrate.model.contextentity import ContextEntity
from rocrate.model.creativework import CreativeWork
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from coda.files import replacing, write_json
from coda.provenance import code_version, describe_machine, file_checksum, software_versions
from coda.redaction import without_secrets
from coda.training.checkpoints import read_header

METADATA = "ro-crate-metadata.json"
WORKFLOW = "provenance/workflow/Snakefile"
SETTINGS = "provenance/config.yaml"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate 0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate 0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate 1.0",
}
RUN_TERMS = "https://w3id.org/ro/terms/workflow-run/context"
KINDS = {
    "figures": "A figure, or the table behind it",
    "harmonisation": "The filters that harmonise the plates of a target, and the spectra behind them",
    "manifests": "The objects fetched for a plate, each with its key, size, checksum and status",
    "metadata": "The plates that took part, or the compounds with their mechanisms of action",
    "models": "What was measured during a training",
    "provenance": "Where the results come from",
    "quality": "Which sites of a plate are used, and why the others are not",
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
        Within the results. Gets ``config.yaml`` (resolved: it runs again
        as it is, but for signatures and passwords of addresses, which are cut out), ``machine.json``
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
    (folder / "config.yaml").write_text(yaml.safe_dump(without_secrets(config), sort_keys=False))
    machine = {"code": code_version(), "software": software_versions()}
    write_json(machine | {"hardware": describe_machine()}, folder / "machine.json")
    for path in weights:
        below = path.relative_to(folder.parent)
        made = {"file": below.as_posix(), "bytes": path.stat().st_size}
        made |= {"sha256": file_checksum(path, 64), "header": without_secrets(read_header(path))}
        write_json(made, folder / below.with_suffix(".json"))
    for path in workflow:
        copy = folder / "workflow" / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def write_crate(path: str | os.PathLike, files: list[Path], config: dict[str, Any]) -> None:
    """Describe files of a run as an RO-Crate.

    Parameters
    ----------
    path
        The metadata file to make, in the folder that holds all of `files`.
    files
        What belongs to the crate; among them ``provenance/workflow/Snakefile``.
    config
        The resolved config: names the tables and the gallery that went in.
    """
    config, root = without_secrets(config), Path(path).parent
    names = sorted({file.relative_to(root).as_posix() for file in files})
    results = [name for name in names if not name.startswith("provenance/")]
    # Of the newest result, not of the clock: the same results are described by the same bytes.
    newest = max((root / name).stat().st_mtime for name in results)
    date = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
    crate = _empty_crate(date)
    parts = {
        name: crate.add_file(root / name, name, properties=_describe_file(root, name))
        for name in names
        if name != WORKFLOW
    }
    run = crate.add_action(
        _add_workflow(crate, root),
        "#run",
        object=[parts[SETTINGS], *_add_inputs(crate, config)],
        result=[parts[name] for name in results],
        properties={
            "name": "Run of the CODA workflow",
            "description": "The machine that ended the run: "
            + ", ".join(f"{name} {value}" for name, value in describe_machine().items())
            + "; provenance/models names the one that trained each network.",
            "endTime": date,
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    crate.root_dataset["mentions"] = run
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(crate.metadata.generate(), indent=1) + "\n")


def _empty_crate(date: str) -> ROCrate:
    """Make a crate that has a name, a date, the profiles that it follows and a licence, but no file."""
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(RUN_TERMS)
    crate.name = "Results of the CODA workflow"
    crate.description = (
        "Domain adaptation for Cell Painting: figures, tables, report, and where they come from."
    )
    crate.root_dataset["datePublished"] = date
    crate.root_dataset["conformsTo"] = [
        _add(crate, CreativeWork, address, name=name, version=address.split("/")[-1])
        for address, name in PROFILES.items()
    ]
    crate.license = _add(crate, CreativeWork, "#rights", name="Rights", description=RIGHTS)
    return crate


def _add(
    crate: ROCrate, kind: type[ContextEntity], identifier: str, **properties: object
) -> ContextEntity:
    return crate.add(kind(crate, identifier, properties))


def _add_workflow(crate: ROCrate, root: Path) -> ContextEntity:
    """Add the workflow and the software that it ran with."""
    software = [
        _add(crate, SoftwareApplication, f"#{name}", name=name, version=version)
        for name, version in software_versions().items()
    ]
    about = {
        "name": "CODA workflow",
        "description": "The workflow that made the results, as it was then.",
        "encodingFormat": "text/plain",
        "version": code_version(),
        "softwareRequirements": software,
    }
    return crate.add_workflow(
        root / WORKFLOW,
        WORKFLOW,
        properties=_describe_file(root, WORKFLOW) | about,
        main=True,
        lang="snakemake",
    )


def _add_inputs(crate: ROCrate, config: dict[str, Any]) -> list[ContextEntity]:
    """Add what went in: the public tables and the gallery."""
    places = {place: f"Table of {name}" for name, place in config["tables"].items()}
    inputs = [
        _add(crate, CreativeWork, _address(place), name=name) for place, name in places.items()
    ]
    gallery = _address(config["gallery"]["root"])
    about = "manifests/ names every object that was read."
    return [
        *inputs,
        _add(crate, CreativeWork, gallery, name="Gallery of images", description=about),
    ]


def _describe_file(root: Path, name: str) -> dict[str, str]:
    """Say what a file is: its kind, format, size in bytes and checksum."""
    path = root / name
    return {
        "name": path.name,
        "description": KINDS.get(name.split("/")[0], "A result of the whole run"),
        "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "contentSize": str(path.stat().st_size),
        "sha256": file_checksum(path, 64),
    }


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
    names = [METADATA, *(unquote(part["@id"]) for part in graph["./"]["hasPart"])]
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for name in sorted(names):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with (crate.parent / name).open("rb") as file, packed.open(entry, "w") as target:
                shutil.copyfileobj(file, target, 1 << 20)
