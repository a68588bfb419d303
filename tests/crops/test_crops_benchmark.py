"""The benchmark of crops still fits the code that it measures; what it is compared with needs DeepProfiler."""

import runpy
import sys

import pytest
from coda.crops.store import CropStore
from places import ROOT


@pytest.mark.slow
def test_our_side_of_the_benchmark_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    benchmark = runpy.run_path(str(ROOT / "benchmarks/crops.py"))
    for kind in ("raw", "lzw"):
        (tmp_path / kind).mkdir()
    benchmark["draw_plate"](tmp_path, 2)
    seconds, memory = benchmark["ours"](tmp_path, "lzw", 2, 1)
    assert seconds > 0 and memory > 0
    store = CropStore([tmp_path / "crops.arrow"])
    assert len(store) == 2 and store.channels == benchmark["CHANNELS"]
