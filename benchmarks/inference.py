"""Throughput of inference over a plate: from the crop store to logits and embeddings.

    python benchmarks/inference.py     # at the paper's size on a GPU, small on a CPU

Prints a table and writes benchmarks/results/inference.json.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent.parent / "scripts"), str(Path(__file__).parent)]

from coda.crops.store import CropStore
from coda.training.compute import Machine
from coda.training.inference import apply_to_sites
from coda.training.networks import build_foundation
from coda.training.vit import cls_tokens
from table import Table
from training import PAPER, SMALL, make_store


def main() -> None:
    gpu = torch.cuda.is_available()
    size = PAPER if gpu else SMALL
    compute = Machine(int(gpu)).claim().compute()
    model = build_foundation(size["model"], len(size["channels"]), size["views"].global_size)
    model = model.eval().to(compute.device)
    run = compute.compiled(lambda views: (cls_tokens(model, views),))
    table = Table("inference")
    with tempfile.TemporaryDirectory() as folder:
        store: CropStore = make_store(Path(folder) / "plate.arrow", size)
        sites = np.tile(np.arange(len(store)), 10 if gpu else 1)
        for batch in (256, 512) if gpu else (64,):
            inputs = dict(
                store=store, size=size["views"].global_size, compute=compute, batch_size=batch
            )
            apply_to_sites(run, sites=sites[: 4 * batch], threads=12 if gpu else 1, **inputs)
            start = time.perf_counter()
            apply_to_sites(run, sites=sites, threads=12 if gpu else 1, **inputs)
            rate = len(sites) / (time.perf_counter() - start)
            goal = (">= 10000", rate >= 10_000) if gpu else ()
            table.add(f"images from store to features, batch {batch}", rate, "images/s", *goal)
    table.finish()


if __name__ == "__main__":
    main()
