"""Where a result comes from: code, settings, inputs, software and hardware, in one dictionary."""

import hashlib
import os
import platform
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coda.versions import software_versions

if TYPE_CHECKING:  # slow to import, and many scripts compute nothing
    import torch

ROOT = Path(__file__).resolve().parents[2]


def describe_run(
    settings: dict[str, Any], seed: int, device: "torch.device", inputs: dict[str, str]
) -> dict[str, Any]:
    """Describe what a result was made from and with, for the header of weights and the report.

    Parameters
    ----------
    settings
        The resolved settings of the step.
    seed
        Its seed.
    device
        Device that computed it.
    inputs
        Checksum of each input, by the input's name.
    """
    return {
        "code": code_version(),
        "settings": settings,
        "seed": seed,
        "device": device_name(device),
        "inputs": inputs,
        "software": software_versions(),
    }


def device_name(device: "torch.device") -> str:
    """Name of the GPU, or of the processor with the number of threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({processor_name()}, {torch.get_num_threads()} threads)"


def describe_machine() -> dict[str, str]:
    """Hardware that this process may use: processor, cores, memory and GPUs."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "processor": processor_name(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.0f} GiB",
    }
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return found | {"GPUs": ", ".join(names) or "none"}


def processor_name() -> str:
    """Model of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(": ")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def code_version(folder: Path = ROOT) -> str:
    """Commit of the workflow, with ``+changes`` if files differ from it; outside git its release.

    A copy of the workflow that lies in a repository of something else has no commit of its own.
    """
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if Path(top).resolve() == folder.resolve():
            return _git(folder, "describe", "--always", "--abbrev=12", "--dirty=+changes")
    except (OSError, subprocess.CalledProcessError):
        pass
    with open(folder / "pyproject.toml", "rb") as file:
        return f"release {tomllib.load(file)['project']['version']}"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def file_checksum(path: str | os.PathLike, digits: int = 16) -> str:
    """SHA-256 of a file as hexadecimal digits, by default shortened as in `crops_checksum`; 64 are all."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:digits]
