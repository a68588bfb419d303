"""Crops of a synthetic plate, against DeepProfiler's own command, in one run.

    PYTHONPATH=scripts python benchmarks/crops.py --deepprofiler-python PATH

PATH is the Python of envs/deepprofiler.yaml. Both sides read the same TIFF files from a warm page
cache, each in a process of its own; the times include starting it. DeepProfiler writes PNG files
of whole fields, ours an Arrow file of the central 448 x 448 pixels.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from coda.crops.store import CropStore
from scipy.ndimage import gaussian_filter
from skimage import io
from table import Table

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
SIDE = 1080
FLAGS = {"blurred": 6.0, "saturated": 0.01, "blank": 0.2, "cells": 1}
SETTINGS = {
    "kind": "centre",
    "size": 448,
    "illumination": "deepprofiler",
    "min_sites": 1,
    "um_per_pixel": None,
}
OURS = """
import json, resource, sys
import pandas as pd
from coda.crops.extract import extract_crops
from coda.crops.illumination import estimate_illumination
folder, images, sites, processes, settings, channels = json.loads(sys.argv[1])
index = pd.read_parquet(folder + "/index.parquet")[:sites]
manifest = pd.read_parquet(folder + "/manifest.parquet")
plate = index, images, manifest
estimate_illumination(*plate, channels, folder + "/light.npz", processes, 1)
extract_crops(*plate, folder + "/light.npz", folder + "/crops.arrow", settings, 0.598, processes)
who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
print(max(resource.getrusage(each).ru_maxrss for each in who))
"""


def draw_plate(folder: Path, sites: int) -> None:
    """Write the plate twice, uncompressed and with LZW, and its index and manifest."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    light = 1 - 0.25 * rows**2 - 0.15 * columns**2
    fields = []
    for _ in range(10):
        cells = gaussian_filter((rng.random((SIDE, SIDE)) > 0.9995).astype(np.float32), 9) * 5e5
        fields.append(rng.poisson((cells + 400) * light).astype(np.uint16))
    index, manifest = [], []
    for number in range(sites):
        well, site = f"{chr(65 + number // 9 // 24)}{number // 9 % 24 + 1:02d}", number % 9 + 1
        index.append(("source_3", "P1", well, site, "treated"))
        for channel in CHANNELS:
            image = np.roll(fields[rng.integers(10)], rng.integers(0, SIDE, 2), (0, 1))
            file = f"{well}_s{site}_{channel}.tiff"
            tifffile.imwrite(folder / "raw" / file, image)
            tifffile.imwrite(folder / "lzw" / file, image, compression="lzw")
            manifest.append((well, site, channel, file, "ok", None))
    keys = ["Metadata_Well", "Metadata_Site"]
    index = pd.DataFrame(index, columns=["Metadata_Source", "Metadata_Plate", *keys, "Class"])
    manifest = pd.DataFrame(manifest, columns=[*keys, "channel", "file", "status", "reason"])
    index.to_parquet(folder / "index.parquet")
    manifest.to_parquet(folder / "manifest.parquet")
    files = manifest.pivot(index=keys, columns="channel", values="file")
    index.join(files, on=keys).to_csv(folder / "index.csv", index=False)


def official(python: str, folder: Path, kind: str, name: str) -> float:
    """Seconds of ``python -m deepprofiler prepare`` with all cores."""
    root = folder / name
    (root / "inputs/config").mkdir(parents=True)
    (root / "inputs/metadata").mkdir()
    (root / "inputs/images").symlink_to(folder / kind)
    (root / "inputs/metadata/index.csv").write_bytes((folder / "index.csv").read_bytes())
    config = {
        "dataset": {
            "metadata": {"label_field": "Class", "control_value": "DMSO"},
            "images": {"channels": CHANNELS, "file_format": "tiff", "bits": 16},
        },
        "prepare": {
            "illumination_correction": {"down_scale_factor": 4, "median_filter_size": 24},
            "compression": {"implement": True, "scaling_factor": 1.0},
        },
    }
    (root / "inputs/config/config.json").write_text(json.dumps(config))
    command = [python, "-m", "deepprofiler", "--root", root, "--config", "config.json"]
    return timed([*command, "--cores", str(len(os.sched_getaffinity(0))), "prepare"], {})[0]


def ours(folder: Path, kind: str, sites: int, processes: int) -> tuple[float, float]:
    """Seconds, and the peak memory in MiB of the largest process."""
    settings = {**SETTINGS, "flags": FLAGS}
    given = [str(folder), str(folder / kind), sites, processes, settings, CHANNELS]
    path = {"PYTHONPATH": str(Path(__file__).parents[1] / "scripts")}
    seconds, said = timed([sys.executable, "-c", OURS, json.dumps(given)], path)
    return seconds, int(said.split()[-1]) / 1024


def timed(command: list, more: dict) -> tuple[float, str]:
    """Run a command; give seconds and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", **more}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stderr}")
    return seconds, done.stdout


def compare(folder: Path, project: str) -> tuple[int, float]:
    """Largest difference in grey levels, and share of equal pixels, over all crops."""
    store = CropStore([folder / "crops.arrow"])
    index = pd.read_csv(folder / "index.csv")
    start, largest, equal = (SIDE - 448) // 2, 0, []
    for row, files in enumerate(index[CHANNELS].to_numpy()):
        for ours, file in zip(store.view(row), files, strict=True):
            image = io.imread(
                folder / project / "outputs/compressed/images/P1" / file.replace(".tiff", ".png")
            )
            cut = image[start : start + 448, start : start + 448].astype(int)
            largest = max(largest, int(np.abs(cut - ours).max()))
            equal.append((cut == ours).mean())
    return largest, float(np.mean(equal))


def main() -> None:
    """Measure, print and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--deepprofiler-python", required=True)
    arguments.add_argument("--sites", type=int, default=96)
    arguments.add_argument("--rounds", type=int, default=2)
    given = arguments.parse_args()
    table = Table("crops")
    sites = given.sites
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for kind in ("raw", "lzw"):
            (folder / kind).mkdir()
        draw_plate(folder, sites)
        theirs = {"raw": [], "lzw": []}
        mine = {(kind, n): [] for kind in ("raw", "lzw") for n in (1, 2)}
        memory = []
        # Interleaved, so that other work on the machine burdens both sides alike.
        for turn in range(given.rounds):
            for kind, times in theirs.items():
                for processes in (1, 2):
                    seconds, peak = ours(folder, kind, sites, processes)
                    mine[kind, processes].append(seconds)
                    memory.append(peak)
                times.append(official(given.deepprofiler_python, folder, kind, f"{kind}{turn}"))
                seconds, peak = ours(folder, kind, sites, 2)
                mine[kind, 2].append(seconds)
        largest, equal = compare(folder, "lzw0")
        few = [ours(folder, "raw", sites // 4, n)[1] for n in (1, 2)]
        for kind, words, least in (("raw", "uncompressed", 10), ("lzw", "LZW", 4)):
            deepprofiler = statistics.median(theirs[kind])
            one, two = (statistics.median(mine[kind, n]) for n in (1, 2))
            table.add(f"{words}: DeepProfiler prepare, {sites} sites", deepprofiler, "s")
            table.add(f"{words}: ours, 1 process", one, "s")
            table.add(f"{words}: ours, 2 processes", two, "s")
            ratio = deepprofiler / two
            table.add(
                f"{words}: ours over DeepProfiler", ratio, "times", f">= {least}", ratio >= least
            )
            table.add(f"{words}: 2 processes over 1", one / two, "times")
        table.add("largest difference", largest, "grey levels", "<= 1", largest <= 1)
        table.add("equal pixels", 100 * equal, "%", ">= 99.9", equal >= 0.999)
        peak = max(memory)
        table.add(f"peak memory of a process, {sites} sites", peak, "MiB", "< 1,024", peak < 1024)
        table.add(f"peak memory of a process, {sites // 4} sites", max(few), "MiB")
    table.finish()


if __name__ == "__main__":
    main()
