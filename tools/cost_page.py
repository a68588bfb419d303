"""Write docs/cost.md: time, disk space and GPU hours, extrapolated from benchmarks/results/*.json."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLATES = (1, 11, 60, 140)

# A Target-2 plate and the paper's settings; a test compares them with the layout and with config/schema.yaml.
WELLS, LABELLED, SITES, CHANNELS = 384, 141, 9, 3
SIDE, CROP = 1080, 448  # pixels
# Files in the gallery, bytes: means by source from jump-cellpainting/datasets (folder stats), of source_3 and source_9.
FILE, LARGEST = 2.53e6, 3.04e6
EPOCHS = 300
IN_FLIGHT = 4
LINE = 1e9 / 8  # bytes per second, assumed: the bandwidth to the gallery was not measured
# Training plates (without held-out plates), and adapted plates summed over pairs, by config; a test counts them again.
RUNS = {"pair.yaml": (6, 3), "config.yaml": (56, 168), "target2.yaml": (129, 1290)}

# All plates of JUMP by the sites that one has: wells and sites of a well. A test counts the plates again.
JUMP = {
    1536 * 4: 108,
    WELLS * 6: 451,
    WELLS * SITES: 1966,
}  # source_9, source_2 and source_10, the others

JUDGED = ("source_3", 24)  # a source and its number of training plates, besides one held-out plate


def rows_of(benchmark: str) -> list[dict]:
    """Give the rows of a benchmark, none if it was not run."""
    path = ROOT / f"benchmarks/results/{benchmark}.json"
    return json.loads(path.read_text()) if path.exists() else []


def measured(benchmark: str, start: str) -> float:
    """Give the largest value among the rows of a benchmark whose names start with `start`."""
    return max(row["value"] for row in rows_of(benchmark) if row["name"].startswith(start))


SPEED, MEMORY = "end to end, batch 128", "peak memory, batch 128"


def training() -> str:
    """Name the benchmark that measured trainings on a GPU last: benchmarks/gpu.py, where it got that far."""
    names = [row["name"] for row in rows_of("gpu")]
    return "gpu" if {SPEED, MEMORY} <= {*names} else "training"


def machine(benchmark: str) -> str:
    """Give the machine on which a benchmark was measured."""
    return rows_of(benchmark)[0]["machine"]


def older(benchmark: str) -> str:
    """Say of which older state of the code a benchmark is, if of one."""
    state = rows_of(benchmark)[0].get("state")
    return f"\n  {state}" if state else ""


def mark(benchmark: str) -> str:
    """Mark what rests on a benchmark that is of an older state."""
    return r" \*" if older(benchmark) else ""


def marks() -> str:
    """Say what the mark means, if there is one."""
    if not any(map(mark, ("crops", training()))):
        return ""
    return "\n\nWhat is marked \\* rests on measurements of an older state of the code, which is named below."


# What benchmarks/gpu.py alone measures, and in which words the page says that it was not.
ON_A_GPU = {
    "training of a classifier, task model": "the classifier",
    "training of a classifier, supervised": "the supervised baseline",
    "inference at 224, with task model": "predictions",
}


def not_measured() -> list[str]:
    """Name what no GPU has measured yet."""
    names = {row["name"] for row in rows_of("gpu")}
    return [words for name, words in ON_A_GPU.items() if name not in names]


def by_plates() -> str:
    """Make the table of costs by number of plates."""
    images = WELLS * SITES * CHANNELS
    raw = images * SIDE**2 * 2 / 1e9
    packed_size = images * FILE / 1e9
    crops = images * CROP**2 / 1e9
    field = 96 * 5  # what the benchmark of crops reads: 96 sites of 5 channels
    plain = measured("crops", "uncompressed: ours, 1 process") / field * images / 3600
    packed = measured("crops", "LZW: ours, 1 process") / field * images / 3600
    rows = {
        "download, uncompressed images, GB": (raw, 1),
        "download, images as large as source_3's, GB": (packed_size, 1),
        "download time at 1 Gbit/s (assumed), hours": (packed_size * 1e9 / LINE / 3600, 1),
        "crops (kept), GB": (crops, 1),
        f"making crops from uncompressed images, core hours{mark('crops')}": (plain, 2),
        f"making crops from LZW-compressed images, core hours{mark('crops')}": (packed, 2),
        f"one DINO training, GPU hours{mark(training())}": (training_hours(), 2),
    }
    lines = [f"| | {' | '.join(f'{n} plates' if n > 1 else '1 plate' for n in PLATES)} |"]
    lines += ["|---|" + "---|" * len(PLATES)]
    for name, (value, digits) in rows.items():
        cells = " | ".join(f"{value * plates:,.{digits}f}" for plates in PLATES)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def training_hours() -> float:
    """GPU hours of one DINO training per plate: every labelled site, once per epoch."""
    return EPOCHS * LABELLED * SITES / measured(training(), SPEED) / 3600


def judging() -> str:
    """Say what the GPU hours leave out: the kNN evaluation of pretraining."""
    source, plates = JUDGED
    images = (plates + 1) * LABELLED * SITES
    epoch = training_hours() / EPOCHS * plates * 3600
    return f"""- GPU hours of pretraining do not include the kNN evaluation on the held-out plate, which has not been
  measured on a GPU. Every `knn.every` epochs (1), it applies the teacher to one view of every labelled site of the
  training plates and the held-out plate. For {source} these are {images:,} images ({plates} plates and one) after
  each epoch of {epoch:.1f} s; `knn.every: 5` reduces this to a fifth. Adaptation has no such evaluation."""


def by_run() -> str:
    """Make the table of GPU hours by config."""
    hours = f"GPU hours{mark(training())}"
    lines = [
        f"| config | pretraining, {hours} | adaptation (ODA and CODA), {hours} |",
        "|---|---|---|",
    ]
    for name, (trained, adapted) in RUNS.items():
        pretraining, adaptation = trained * training_hours(), 2 * adapted * training_hours()
        lines.append(f"| `config/{name}` | {pretraining:,.1f} | {adaptation:,.1f} |")
    return "\n".join(lines)


def all_of_jump() -> str:
    """Work out what all plates would cost, from the same measurements."""
    plates, sites = sum(JUMP.values()), sum(size * count for size, count in JUMP.items())
    images, field = sites * CHANNELS, 96 * 5
    bytes_ = images * FILE
    crop = [measured("crops", f"{kind}: ours, 1 process") for kind in ("uncompressed", "LZW")]
    low, high = (seconds / field * images / 3600 for seconds in crop)
    speed, old = measured(training(), SPEED), mark(training())
    epoch = sites / speed / 3600
    hours = EPOCHS * epoch
    last = "How fast they are has not been measured."
    rows = f"""| DINO training on one GPU, sites a second{old} | {speed:,.0f} |
| one epoch of DINO, GPU hours{old} | {epoch:.1f} |
| one DINO training of {EPOCHS} epochs, GPU hours{old} | {hours:,.0f} |"""
    if "predictions" in not_measured():
        last = "How fast they are has not been measured, nor have\npredictions on a GPU."
    else:
        predicted = sites / measured("gpu", "inference at 224, with task model") / 3600
        rows += f"\n| predictions for all sites, GPU hours{mark('gpu')} | {predicted:.1f} |"
    return f"""On paper, from the figures above; nothing of this size has been run. JUMP has {plates:,} plates.
With {WELLS} wells of {SITES} sites, but for source_2 and source_10 (6 sites) and source_9 (1,536 wells of 4), they have
{sites / 1e6:.1f} million sites, of which all are used here, labelled or not. Source_1 is counted like most, though its
few plates may be larger ones too, which would add 2 %.

| | {plates:,} plates |
|---|---|
| download, {CHANNELS} channels, TB | {bytes_ / 1e12:.1f} |
| download time at 1 Gbit/s (assumed), days | {bytes_ / LINE / 86400:.1f} |
| crops (kept), TB | {images * CROP**2 / 1e12:.1f} |
| making crops, core hours{mark("crops")} | {low:,.0f} to {high:,.0f} |
{rows}

A training on several GPUs or nodes (`compute.gpus`, `compute.nodes`) takes at least its share of these hours:
{hours / 8:,.0f} on 8 GPUs, were they 8 times as fast as one. {last}"""


def demo() -> str:
    """Make the table of the demo's stages."""
    rows = json.loads((ROOT / "benchmarks/results/demo.json").read_text())
    rows = [row for row in rows if re.search(r"largest memory$|, \d+ jobs$", row["name"])]
    memory = {row["name"].split(",")[0]: row["value"] for row in rows if row["unit"] == "MiB"}
    lines = ["| rule, jobs | seconds, sum over jobs | peak memory, MiB |", "|---|---|---|"]
    for row in rows:
        if row["unit"] == "s":
            most = memory.get(row["name"].split(",")[0])
            lines.append(
                f"| {row['name']} | {row['value']:,.0f} | {f'{most:,.0f}' if most else ''} |"
            )
    return "\n".join(lines)


def page() -> str:
    """Make the whole page."""
    peak = IN_FLIGHT * WELLS * SITES * CHANNELS * FILE / 1e9
    wide = 1536 * 4 * CHANNELS * LARGEST / 1e9
    speed = measured(training(), SPEED)
    memory, lacking = measured(training(), MEMORY), not_measured()
    return f"""# Time, disk space and GPU hours

<!-- Written by tools/cost_page.py from benchmarks/results/*.json. -->

This page estimates what a run costs before you start it. The numbers are extrapolated from measurements of single
stages; no complete run on real plates has been measured. For your own config, `snakemake plan` counts exactly the files
and bytes to download.{marks()}

## By number of plates

A Target-2 plate has {WELLS} wells with {SITES} sites each at most sources; source_2 and source_10 imaged 6 sites of a
well, and source_9 has plates of 1,536 wells with 4 sites. {LABELLED} of {WELLS} wells contain compounds with a
mechanism of action; only these are used for training. The estimates are for {CHANNELS} channels of
{SIDE} x {SIDE} pixels with 16 bit, crops of {CROP} x {CROP} pixels with 8 bit, and {EPOCHS} epochs.

{by_plates()}

- Images are on disk only from download until the crops have been made, for at most {IN_FLIGHT} plates at a time
  (`gallery.plates_in_flight`): {peak:,.0f} GB. A plate of source_9 takes {wide:,.0f} GB. Compressed images are no
  smaller: LZW without a predictor, as microscopes write it, makes files of noise *larger* than the
  {SIDE**2 * 2 / 1e6:.2f} MB of an uncompressed image. In the gallery the mean is 2.4 to 3.0 MB by source; `snakemake
  plan` shows it for yours. With `choose.labelled: true`, only labelled wells are downloaded.
- Crops: one process on {machine("crops")}, 96 sites. Two processes were
  {measured("crops", "uncompressed: 2 processes over 1"):.1f} times as fast.{older("crops")}
- Training: {machine(training())},
  DeiT-S/16 with batch size 128: {speed:,.0f} sites per second, {memory:.0f} GiB of GPU memory.{older(training())}
  To measure your own GPU, run `python benchmarks/gpu.py`.
{judging()}
- Not measured: the bandwidth to the gallery{"; on a GPU: " * bool(lacking) + ", ".join(lacking)}.

## By config

Each source is pretrained once per seed, and adapted to each of its targets by both ODA and CODA.

{by_run()}

Jobs are independent, so n GPUs need about 1/n of this time until only a few jobs are left.

## All of JUMP

{all_of_jump()}

## The demo, by rule

`make demo` on {machine("demo")}. Jobs run in parallel, so the total time is shorter than the sum.

{demo()}
"""


if __name__ == "__main__":
    (ROOT / "docs/cost.md").write_text(page())
