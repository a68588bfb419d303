"""Versions of the software behind a result."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "torch",
    "timm",
    "snakemake",
    "deepprofiler",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "copairs",
    "matplotlib",
    "boto3",
)


def software_versions() -> dict[str, str]:
    """Versions of Python, the system and the installed packages that results depend on."""
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
