"""Throughput of DINO training, from the crop store to the optimiser step.

    python benchmarks/training.py                 # at the paper's size on a GPU, small on a CPU

Prints a table and writes benchmarks/results/training.json: samples (sites) a second end to end, how a step's
time splits, the share of the chip's measured bf16 peak, memory and scaling over the batch, and beside it, in
the same run, the usual way: PNG files, PIL and torchvision in eight workers, float32, not compiled.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent.parent / "scripts"), str(Path(__file__).parent)]

from coda.crops.store import CropStore, CropWriter
from coda.training.compute import Compute, Machine
from coda.training.dino_trainer import DinoLearner, PairedSites
from coda.training.loader import Loader
from coda.training.partners import find_partners
from coda.training.settings import DinoSettings, HeadSettings, ModelSettings, ViewSettings
from coda.training.trainer import Trainer
from table import Table

PAPER = dict(
    crop=448,
    sites=2048,
    channels=["DNA", "ER", "Mito"],
    batch=128,
    model=ModelSettings(weights="random"),
    head=HeadSettings(),
    views=ViewSettings(),
)
SMALL = dict(
    crop=128,
    sites=256,
    channels=["DNA", "ER", "Mito"],
    batch=32,
    model=ModelSettings(
        "vit_tiny_patch16_224", dict(embed_dim=128, depth=4, num_heads=4, patch_size=8), "random"
    ),
    head=HeadSettings(512, 128, 256, True),
    views=ViewSettings(64, 32, 4),
)


def make_store(
    path: Path,
    size: dict,
    draw: Callable[[int], np.ndarray] | None = None,
    each: int = 64,
) -> CropStore:
    """Write sites of four batches and eight plates, `each` of a compound: of noise, unless `draw` gives their crops."""
    random = np.random.default_rng(0)
    side, count = size["crop"], len(size["channels"])

    def noise(site: int) -> np.ndarray:
        return random.integers(0, 256, (1, count, side, side), dtype=np.uint8)

    with CropWriter(path, size["channels"], side, side, {"um_per_pixel": 0.6}) as writer:
        for site in range(size["sites"]):
            writer.write(
                {
                    "Metadata_Source": "source_1",
                    "Metadata_Batch": f"b{site % 4}",
                    "Metadata_Plate": f"p{site % 8}",
                    "Metadata_Well": f"A{site // each:04d}",
                    "Metadata_Site": site,
                    "Metadata_JCP2022": f"JCP2022_{site // each:06d}",
                },
                (draw or noise)(site),
            )
    return CropStore([path])


def make_training(
    store: CropStore,
    size: dict,
    compute: Compute,
    batch: int,
    threads: int,
    seed: int = 0,
    **schedule: float | str,
) -> Trainer:
    """Prepare a training as the workflow would; it does not end, unless the `schedule` says so."""
    learner = DinoLearner(
        channels=len(store.channels),
        steps_per_epoch=len(store) // batch,
        compute=compute,
        settings=DinoSettings(**{"epochs": 10_000, "batch_size": batch} | schedule),
        model=size["model"],
        head=size["head"],
        views=size["views"],
        seed=seed,
    )
    partners = find_partners(store.table, ["batch", "plate", "well", "site"])
    sites = PairedSites(store, np.arange(len(store)), partners)
    return Trainer(learner, sites, threads=threads)


def batches_of(training: Trainer) -> Loader:
    """Load the training's batches as its loop does."""
    learner, sites = training.learner, training.batches
    return Loader(sites.store, sites.plan(learner), learner.compute.device, training.threads)


def synchronize(compute: Compute) -> None:
    """Wait for the device."""
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def measure_end_to_end(training: Trainer, warm: int, steps: int) -> dict[str, float]:
    """Samples a second from the store to the optimiser, and the share of time waiting for data."""
    loader = batches_of(training)
    for number, batch in enumerate(training.learner.prepared(loader)):
        if number == warm:
            synchronize(training.learner.compute)
            start, loader.waited = time.perf_counter(), 0.0
        if number == warm + steps:
            break
        training.learner.train_step(*batch)
    synchronize(training.learner.compute)
    seconds = time.perf_counter() - start
    batch = training.learner.settings.batch_size
    return {
        "rate": steps * batch / seconds,
        "waiting": loader.waited / seconds,
        "step": seconds / steps,
    }


def measure_parts(training: Trainer, steps: int) -> dict[str, float]:
    """Seconds of a step's parts, each waited for."""
    loader = iter(batches_of(training))
    sites, (*draws, rows) = next(loader)
    no_controls = sites[0, :0]
    parts = {"views": 0.0, "forward and backward": 0.0, "update": 0.0}
    for number in range(steps + 3):
        if number == 3:
            parts = dict.fromkeys(parts, 0.0)
        if training.learner.compute.compile:
            torch.compiler.cudagraph_mark_step_begin()
        marks = [time.perf_counter()]
        views = training.learner.make_views(sites, *draws)
        synchronize(training.learner.compute)
        marks.append(time.perf_counter())
        training.learner.forward_backward(*views, no_controls, rows)
        synchronize(training.learner.compute)
        marks.append(time.perf_counter())
        training.learner.update()
        synchronize(training.learner.compute)
        marks.append(time.perf_counter())
        for name, seconds in zip(parts, np.diff(marks), strict=True):
            parts[name] += seconds / steps
    loader.close()
    return parts


def measure_peak() -> float:
    """Measured bf16 rate of a large matrix product, in FLOP/s."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(30):
        a @ b
    torch.cuda.synchronize()
    return 30 * 2 * 8192**3 / (time.perf_counter() - start)


def forward_flops(size: dict, side: int) -> float:
    """FLOPs of the CLS token of one view of `side` pixels, as `coda.training.vit` computes it: two a multiply-add."""
    from coda.training.networks import build_foundation

    with torch.device("meta"):
        model = build_foundation(size["model"], len(size["channels"]), size["views"].global_size)
    width, depth, patch = model.embed_dim, len(model.blocks), model.patch_embed.patch_size[0]
    heads, hidden = model.blocks[0].attn.num_heads, model.blocks[0].mlp.fc1.out_features
    tokens = (side // patch) ** 2 + 1
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    # Of the last one query, key and value of each head, projection and MLP of one token, and a look at all.
    last = 4 * width**2 + 2 * width * hidden + 2 * tokens * heads * width
    embedding = (tokens - 1) * len(size["channels"]) * patch**2 * width
    return 2 * ((depth - 1) * block + last + embedding)


def flops_per_sample(size: dict) -> float:
    """FLOPs of a training step per site: student forward and backward (3x), teacher forward."""
    from coda.training.networks import build_foundation

    with torch.device("meta"):
        width = build_foundation(size["model"], 1, size["views"].global_size).embed_dim
    h, views = size["head"], size["views"]
    head = width * h.hidden + h.hidden**2 + h.hidden * h.bottleneck + h.bottleneck * h.prototypes
    teacher = 2 * (forward_flops(size, views.global_size) + 2 * head)
    local = forward_flops(size, views.local_size) + 2 * head
    return 3 * (teacher + views.local_count * local) + teacher


def measure_usual_way(
    store: CropStore, size: dict, compute: Compute, folder: Path, steps: int, workers: int
) -> float:
    """Samples a second of PNG files, PIL and torchvision in workers, and a float32 step, not compiled."""
    from usual_way import png_batches

    plain = Compute(compute.device, "fp32", False)
    training = make_training(store, size, plain, size["batch"], 1)
    torch.set_float32_matmul_precision("highest")
    warm = 2
    for number, (global_views, local_views) in enumerate(
        png_batches(store, size, folder, workers, steps + warm)
    ):
        if number == warm:
            synchronize(compute)
            start = time.perf_counter()
        views = [each.to(compute.device) for each in (global_views, local_views)]
        rows = torch.arange(size["batch"], device=compute.device)
        training.learner.forward_backward(*views, views[0][:0], rows)
        training.learner.update()
    synchronize(compute)
    rate = steps * size["batch"] / (time.perf_counter() - start)
    torch.set_float32_matmul_precision("high")
    return rate


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="further batch sizes")
    parser.add_argument(
        "--steps", type=int, default=0, help="measured steps (default 60, 8 on a CPU)"
    )
    parser.add_argument(
        "--threads", type=int, default=8, help="threads that gather, and workers of the usual way"
    )
    parser.add_argument("--no-usual-way", action="store_true", help="leave the baseline out")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    size, compute = (PAPER, Machine(1).claim().compute()) if gpu else (SMALL, Machine(0).compute())
    steps = options.steps or (60 if gpu else 8)
    table = Table("training" if gpu else "training_toy")
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "plate.arrow", size)
        if gpu:
            peak = measure_peak()
            table.add("bf16 peak, measured", peak / 1e12, "TFLOP/s")
        for batch in [size["batch"], *options.batches]:
            torch.cuda.reset_peak_memory_stats() if gpu else None
            threads = options.threads if gpu else 1
            training = make_training(store, size, compute, batch, threads)
            whole = measure_end_to_end(training, warm=12 if gpu else 2, steps=steps)
            paper = gpu and batch == size["batch"]
            goal = (">= 1800", whole["rate"] >= 1800) if paper else ()
            table.add(f"end to end, batch {batch}", whole["rate"], "samples/s", *goal)
            goal = ("< 5", whole["waiting"] < 0.05) if paper else ()
            table.add(f"waiting for data, batch {batch}", 100 * whole["waiting"], "%", *goal)
            if batch == size["batch"]:
                ours = whole["rate"]
            if gpu:
                share = whole["rate"] * flops_per_sample(size) / peak
                table.add(f"share of the measured peak, batch {batch}", 100 * share, "%")
                table.add(
                    f"peak memory, batch {batch}", torch.cuda.max_memory_allocated() / 2**30, "GiB"
                )
            for name, seconds in measure_parts(training, max(4, steps // 3)).items():
                table.add(f"{name}, batch {batch}", 1e3 * seconds, "ms")
            del training
        if not options.no_usual_way:
            usual = measure_usual_way(
                store, size, compute, Path(folder), max(4, steps // 4), options.threads
            )
            table.add("the usual way", usual, "samples/s")
            table.add("end to end over the usual way", ours / usual, "x")
    table.finish()


if __name__ == "__main__":
    main()
