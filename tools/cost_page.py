"""Write docs/cost.md: what a run takes, extrapolated from what was measured in benchmarks/results/*.json."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLATES = (1, 11, 60, 140)

# A Target-2 plate and the paper's settings; a test compares them with the layout and with config/schema.yaml.
WELLS, LABELLED, SITES, CHANNELS = 384, 141, 9, 3
SIDE, CROP = 1080, 448  # pixels
EPOCHS = 300
IN_FLIGHT = 4
LINE = 1e9 / 8  # bytes a second, assumed: the way to the gallery was not measured
# Plates that train, without validation plates, and pairs, by config; a test counts them again.
RUNS = {"pair.yaml": (6, 3), "config.yaml": (56, 168), "target2.yaml": (129, 1290)}

JUDGED = ("source_3", 24)  # a source and its plates that train, beside one validation plate


def measured(benchmark: str, start: str) -> float:
    """Give the largest value among the rows of a benchmark whose names start with `start`."""
    rows = json.loads((ROOT / f"benchmarks/results/{benchmark}.json").read_text())
    return max(row["value"] for row in rows if row["name"].startswith(start))


def machine(benchmark: str) -> str:
    """Say on what a benchmark was measured."""
    return json.loads((ROOT / f"benchmarks/results/{benchmark}.json").read_text())[0]["machine"]


def by_plates() -> str:
    """Make the table of costs by number of plates."""
    images = WELLS * SITES * CHANNELS
    raw = images * SIDE**2 * 2 / 1e9
    crops = images * CROP**2 / 1e9
    field = 96 * 5  # what the benchmark of crops reads: 96 sites of 5 channels
    plain = measured("crops", "uncompressed: ours, 1 process") / field * images / 3600
    packed = measured("crops", "LZW: ours, 1 process") / field * images / 3600
    rows = {
        "to fetch, uncompressed images, GB": (raw, 1),
        "time to fetch at 1 Gbit/s (assumed), hours": (raw * 1e9 / LINE / 3600, 1),
        "crops, which stay, GB": (crops, 1),
        "from images to crops, uncompressed, core hours": (plain, 2),
        "from images to crops, LZW, core hours": (packed, 2),
        "one DINO training on the plates, GPU hours": (training_hours(), 2),
    }
    lines = [f"| | {' | '.join(f'{n} plates' if n > 1 else 'a plate' for n in PLATES)} |"]
    lines += ["|---|" + "---|" * len(PLATES)]
    for name, (value, digits) in rows.items():
        cells = " | ".join(f"{value * plates:,.{digits}f}" for plates in PLATES)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def training_hours() -> float:
    """GPU hours of one DINO training for each plate: every labelled site, once an epoch."""
    return EPOCHS * LABELLED * SITES / measured("training", "end to end, batch 128") / 3600


def judging() -> str:
    """Say what the GPU hours leave out: the nearest neighbours that judge a pretraining."""
    source, plates = JUDGED
    images = (plates + 1) * LABELLED * SITES
    epoch = training_hours() / EPOCHS * plates * 3600
    return f"""- GPU hours of pretraining leave out its judge, not measured on a GPU either: every `knn.every`
  epochs (1) all labelled sites of the training plates and of the validation plate go through the teacher, one view
  each, without gradients. For {source} these are {images:,} images ({plates} plates and one) after each epoch of
  {epoch:.1f} s; `knn.every: 5` makes it a fifth. Adaptation has no judge."""


def by_run() -> str:
    """Make the table of GPU hours by config."""
    lines = [
        "| config | pretraining, GPU hours | adaptation (ODA and CODA), GPU hours |",
        "|---|---|---|",
    ]
    for name, (trained, adapted) in RUNS.items():
        pretraining, adaptation = trained * training_hours(), 2 * adapted * training_hours()
        lines.append(f"| `config/{name}` | {pretraining:,.1f} | {adaptation:,.1f} |")
    return "\n".join(lines)


def demo() -> str:
    """Make the table of the demo's stages."""
    rows = json.loads((ROOT / "benchmarks/results/demo.json").read_text())
    memory = {row["name"].split(",")[0]: row["value"] for row in rows if row["unit"] == "MiB"}
    lines = ["| rule, jobs | seconds, summed | largest memory, MiB |", "|---|---|---|"]
    for row in rows:
        if row["unit"] == "s":
            most = memory.get(row["name"].split(",")[0])
            lines.append(
                f"| {row['name']} | {row['value']:,.0f} | {f'{most:,.0f}' if most else ''} |"
            )
    return "\n".join(lines)


def page() -> str:
    """Make the whole page."""
    peak = IN_FLIGHT * WELLS * SITES * CHANNELS * SIDE**2 * 2 / 1e9
    speed = measured("training", "end to end, batch 128")
    memory = measured("training", "peak memory, batch 128")
    return f"""# What a run takes

<!-- Written by tools/cost_page.py from benchmarks/results/*.json. -->

Measured in parts and multiplied; no whole run on real plates stands behind these figures. For the plates of your
own config, `snakemake plan` lists the gallery and counts objects and bytes exactly.

## By plates

A Target-2 plate has {WELLS} wells of {SITES} sites; {LABELLED} wells hold compounds with a mechanism of action,
and those alone are trained on. {CHANNELS} channels of {SIDE} x {SIDE} pixels, 16 bit;
crops of {CROP} x {CROP}, 8 bit; {EPOCHS} epochs.

{by_plates()}

- Images lie on the disk only between download and crops: of at most {IN_FLIGHT} plates at once
  (`gallery.plates_in_flight`), {peak:,.0f} GB; plates of 1,536 wells take up to 40 GB each. Images that the
  gallery keeps compressed are smaller. `choose.labelled: true` fetches and keeps the labelled wells only.
- Crops: one process on {machine("crops")}, 96 sites; two processes were
  {measured("crops", "uncompressed: 2 processes over 1"):.1f} times as fast.
- Training: {machine("training")},
  DeiT-S/16 at batch 128, {speed:,.0f} sites a second and {memory:.0f} GiB of the GPU's memory;
  another GPU has another speed (`python benchmarks/training.py`).
{judging()}
- Not measured, and so not here: the line to the gallery; classifier, supervised baseline and predictions on a GPU.

## By config

Each source is pretrained once a seed, and adapted to each of its targets with and without partners from other batches.

{by_run()}

With one GPU these are hours of waiting; jobs are independent, so n GPUs take about 1/n of it until single jobs remain.

## The demo, stage by stage

`make demo` on {machine("demo")}; jobs ran side by side, so it took less than the sum.

{demo()}
"""


if __name__ == "__main__":
    (ROOT / "docs/cost.md").write_text(page())
