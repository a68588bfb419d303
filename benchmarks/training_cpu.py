"""DINO training on a processor: the step as it is beside timm's plain one, at the size of the demo.

    python benchmarks/training_cpu.py

Prints a table and writes benchmarks/results/training_cpu.json: samples (sites) a second from the crop store to the
optimiser step, for this processor and for it behaving like one with AVX2 alone (ONEDNN_MAX_CPU_ISA and
ATEN_CPU_CAPABILITY). Both ways take turns, a step each, in one process. Rates are those of the fastest steps, ratios
those of the median processor time of a step, so that other programs disturb little. The plain way computes all
tokens of the last block, and each size of views by itself.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

sys.path[:0] = [str(Path(__file__).parent.parent / "scripts"), str(Path(__file__).parent)]

import coda.training.dino
from coda.training.compute import Machine
from coda.training.vit import cls_tokens
from table import Table
from training import SMALL, batches_of, make_store, make_training

DEMO = SMALL | {"channels": ["DNA", "ER", "RNA", "AGP", "Mito"]}
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def plainly(vit: torch.nn.Module, *batches: torch.Tensor) -> torch.Tensor:
    """Give the CLS tokens as timm computes them."""
    return torch.cat([vit.forward_features(views)[:, 0] for views in batches])


def measure(threads: int, precision: str, steps: int) -> tuple[str, float, float, float]:
    """Give the precision, samples a second of the plain way and of ours, and how many times as fast ours is."""
    compute = Machine(0, threads, precision).compute()
    seconds = {plainly: [], cls_tokens: []}
    processor = {plainly: [], cls_tokens: []}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "plate.arrow", DEMO)
        training = make_training(store, DEMO, compute, DEMO["batch"], threads=1)
        for number, (sites, draws) in enumerate(batches_of(training)):
            if number == 2 * steps + 2:
                break
            way = (plainly, cls_tokens)[number % 2]
            coda.training.dino.cls_tokens = way
            begun = time.perf_counter(), time.process_time()
            training.learner.train_step(sites, draws)
            if number > 1:
                seconds[way].append(time.perf_counter() - begun[0])
                processor[way].append(time.process_time() - begun[1])
    rates = [DEMO["batch"] / min(seconds[way]) for way in (plainly, cls_tokens)]
    return compute.precision, *rates, median(processor[plainly]) / median(processor[cls_tokens])


def measure_in_a_process(
    variables: dict[str, str], threads: int, precision: str, steps: int
) -> tuple[str, float, float, float]:
    """Measure in a process of its own, since PyTorch reads the variables once."""
    words = [sys.executable, __file__, "--measure", str(threads), precision, str(steps)]
    # Threads that wait must not take the cores of other programs.
    settings = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **variables}
    done = subprocess.run(words, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    precision, *rates = done.stdout.split()[-4:]
    return precision, *map(float, rates)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="measured steps of each way")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        threads, precision, steps = options.measure
        print(*measure(int(threads), precision, int(steps)))
        return
    table, cores = Table("training_cpu"), len(os.sched_getaffinity(0))
    for name, variables in (("AVX2", AVX2), ("this processor", {})):
        for threads in [count for count in (1, 2, 4) if count <= cores]:
            precision, before, after, ratio = measure_in_a_process(
                variables, threads, "auto", options.steps
            )
            where = f"{name}, {precision}, {threads} thread{'s' * (threads > 1)}"
            table.add(f"plain way, {where}", before, "samples/s")
            table.add(f"end to end, {where}", after, "samples/s")
            goal = (">= 3", ratio >= 3) if name == "AVX2" else ()
            table.add(f"end to end over the plain way, {where}", ratio, "x", *goal)
    _, emulated, _, _ = measure_in_a_process(AVX2, 1, "bf16", 1)
    table.add("plain way, AVX2, bf16 emulated, 1 thread", emulated, "samples/s")
    table.finish()


if __name__ == "__main__":
    main()
