"""Fixtures that several test files share."""

import multiprocessing
import os
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from places import REFERENCE

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Threads of several libraries at once make small tests slow, and results depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Rooms whose files take longest. They go first, so that short ones fill the end of each of several processes.
LONG = ("workflow", "training", "project")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put the files that take longest first."""
    order = {Path(__file__).parent / room: place for place, room in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.parent, len(LONG)))


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of public reference tables and images, which is not part of the project."""
    if not REFERENCE.is_dir():
        pytest.skip(f"the reference data are not at {REFERENCE}")
    return REFERENCE


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Start processes that know nothing of this one, and share the import of torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    return context


@pytest.fixture(scope="module")
def browser():
    """A real Chromium."""
    from browser import find_chromium, open_browser

    if find_chromium() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def tiny_plates(tmp_path_factory) -> list[str]:
    """Four plates of 32 crops, 2 channels of 48 pixels, in two batches; stripes tell the class."""
    from coda.crops.store import CropWriter

    folder = tmp_path_factory.mktemp("crops")
    random = np.random.default_rng(0)
    paths = []
    for batch in ("b1", "b2"):
        for number in (1, 2):
            plate = f"{batch}p{number}"
            path = folder / f"{plate}.arrow"
            with CropWriter(path, ["DNA", "ER"], 48, 48, {"um_per_pixel": 1.0}) as writer:
                for site in range(32):
                    pixels = random.integers(0, 200, (1, 2, 48, 48), dtype=np.uint8)
                    pixels[:, :, :: 2 + site % 4] += 50
                    metadata = {
                        "Metadata_Source": "source_1",
                        "Metadata_Batch": batch,
                        "Metadata_Plate": plate,
                        "Metadata_Well": f"A{site // 2 + 1:02d}",
                        "Metadata_Site": site % 2,
                        "Metadata_JCP2022": f"JCP2022_{site // 2 % 8:06d}",
                        "Metadata_pert_type": "negcon" if site // 2 % 8 == 7 else "trt",
                        "Metadata_moa": None if site // 2 % 8 == 7 else f"moa {site % 4}",
                        "Quality_ok": site != 5,
                    }
                    writer.write(metadata, pixels)
            paths.append(str(path))
    return paths
