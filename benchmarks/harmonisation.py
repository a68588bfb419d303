"""How fast crops are harmonised, and how fast their Fourier transforms alone are.

PYTHONPATH=scripts python benchmarks/harmonisation.py
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from coda.crops.harmonisation import BINS, Harmonisation, Harmoniser, Rings, transform_sizes
from coda.training.compute import keep_freed_memory
from table import Table

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
UM = 0.65


def a_filter(um: float, plate: str) -> Harmonisation:
    """Gains of the size that real ones have."""
    random = np.random.default_rng(0)
    factors = np.eye(5) + 0.2 * random.normal(size=(BINS, 5, 5))
    gain = factors @ factors.transpose(0, 2, 1)
    width = 1 / (2 * UM) / BINS
    return Harmonisation("s", plate, "t", CHANNELS, um, UM, width, 64, 1.0, 1.0, gain, gain, gain)


def rate(work: Callable, fields: int, device: torch.device, repeats: int) -> float:
    """Fields a second in the fastest of several turns: other work on the machine only ever adds."""

    def turn() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    turn()  # lays the gains out
    return fields / min(turn() for _ in range(repeats))


def main() -> None:
    """Measure, print and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--repeats", type=int, default=7)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    gpu = torch.cuda.is_available()
    device, fields = torch.device("cuda" if gpu else "cpu"), 128 if gpu else 32
    goal, turns = (10_000 if gpu else 300), fields // 4
    table = Table("harmonisation")

    def crops(side: int) -> torch.Tensor:
        return torch.randint(0, 256, (fields, 5, side, side), dtype=torch.uint8, device=device)

    def add(words: str, work: Callable, least: float = 0) -> None:
        measured = rate(work, fields, device, given.repeats)
        aim = (f">= {least:,}", measured >= least) if least else ()
        table.add(words, measured, "fields/s", *aim)

    for side in (128, 448):
        images = crops(side)
        for words, ums in (
            ("", [UM]),
            (", batch of four plates", [UM] * 4),
            (", from finer pixels", [0.598]),
            (", from coarser pixels", [0.7032]),
        ):
            plates = [("s", str(number)) for number in range(len(ums))]
            filters = {key: a_filter(um, key[1]) for key, um in zip(plates, ums, strict=True)}
            harmoniser = Harmoniser(filters, device)
            names = [plates[row % len(plates)] for row in range(fields)]
            least = goal if side == 448 and not words else 0
            name = f"{side} x {side} x 5{words}"
            add(name, lambda h=harmoniser, i=images, n=names: h(i, n), least)
        size, _ = transform_sizes(side, 1.0)
        pairs = torch.randn(2, 5, size, size, dtype=torch.complex64, device=device)
        add(
            f"{side} x {side} x 5: the two transforms of {size} alone",
            lambda p=pairs: [torch.fft.ifft2(torch.fft.fft2(p)) for _ in range(turns)],
        )
    rings = Rings((448, 448), UM, 1 / (2 * UM) / BINS)
    some = crops(448)[:8].cpu().numpy()
    start = time.perf_counter()
    rings.spectra(some, given.threads)
    table.add("measure spectra, 448 x 448 x 5", 8 / (time.perf_counter() - start), "fields/s")
    table.finish()


if __name__ == "__main__":
    main()
