"""Where a result comes from: code, settings, inputs, software and hardware, in one dictionary."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coda.store import CropStore

PACKAGES = ("torch", "timm", "numpy", "pandas", "pyarrow", "snakemake", "deepprofiler", "boto3")


def describe_run(
    settings: dict[str, Any], seed: int, device: torch.device, inputs: dict[str, str]
) -> dict[str, Any]:
    """Describe what makes a result: goes into the header of weights and into the report.

    Parameters
    ----------
    settings
        The resolved settings of the step.
    seed
        Its seed.
    device
        What it was computed on.
    inputs
        Name of each input to its checksum.
    """
    return {
        "code": code_version(),
        "settings": settings,
        "seed": seed,
        "device": device_name(device),
        "inputs": inputs,
        "software": software_versions(),
    }


def device_name(device: torch.device) -> str:
    """Say what `device` is: the GPU's name, or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


def software_versions() -> dict[str, str]:
    """Versions of Python, the system and the packages that results depend on."""
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def weights_checksum(model: dict[str, Any]) -> dict[str, str]:
    """Checksum of the file that a network starts from by ``model.weights``, if it is one."""
    weights = model["weights"]
    return {} if weights in ("imagenet", "random") else {weights: file_checksum(weights)}


def code_version() -> str:
    """Commit of the workflow, with ``+changes`` if files differ from it; ``unknown`` outside git."""
    folder = Path(__file__).parent
    try:
        words = [
            "git",
            "-C",
            str(folder),
            "describe",
            "--always",
            "--abbrev=12",
            "--dirty=+changes",
        ]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def crops_checksum(path: str | os.PathLike, samples: int = 64) -> str:
    """Checksum of a plate's crops: all metadata, the settings, and pixels of evenly spaced crops.

    A whole plate has gigabytes of pixels; a sample of crops tells two versions apart all the same,
    since statistics of the whole plate go into every pixel.
    """
    store = CropStore([path])
    digest = hashlib.sha256(store.table.to_csv(index=False).encode())
    digest.update(repr((store.channels, store.settings, len(store))).encode())
    for index in np.unique(np.linspace(0, len(store) - 1, samples).astype(int)):
        digest.update(store.view(int(index)).tobytes())
    return digest.hexdigest()[:16]


def file_checksum(path: str | os.PathLike) -> str:
    """SHA-256 of a file, shortened as in `crops_checksum`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
