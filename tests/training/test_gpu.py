"""What only a GPU can show: resuming within a tolerance, and the speeds asked for."""

import runpy
import time
from functools import partial

import numpy as np
import pytest
import torch
from coda.training.compute import Machine
from coda.training.dino_trainer import DinoLearner
from coda.training.inference import cls_features
from coda.training.networks import build_foundation
from coda.training.vit import cls_tokens
from places import ROOT
from safetensors.torch import load_file
from small_training import OFTEN, outputs_in, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")

# Kernels on a GPU add up in an order that differs between runs, so two of them are not equal bit for bit.
TOLERANCE = 1e-3


@pytest.fixture
def h100():
    """Skip where the asked-for speeds do not apply."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    if "H100" not in name and "H200" not in name:
        pytest.skip(f"the speeds are asked for on an H100; this GPU is {name}")


def distance(one: str, two: str) -> float:
    """Distance between all weights of two files, over their length."""
    first, second = load_file(one), load_file(two)
    apart = sum((first[name] - second[name]).double().square().sum() for name in first)
    length = sum(tensor.double().square().sum() for tensor in second.values())
    return float((apart / length).sqrt())


def test_interrupted_and_gone_on_ends_close_to_undisturbed(tiny_plates, tmp_path, monkeypatch):
    train(tmp_path / "calm", tiny_plates, gpus=1, watch=OFTEN)
    take = DinoLearner.train_step

    def interrupted(self, sites, draws):
        if self.step == 13:
            raise KeyboardInterrupt
        take(self, sites, draws)

    monkeypatch.setattr(DinoLearner, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "disturbed", tiny_plates, gpus=1, watch=OFTEN)
    monkeypatch.undo()
    train(tmp_path / "disturbed", tiny_plates, gpus=1, watch=OFTEN)
    calm, disturbed = (outputs_in(tmp_path / name)["networks"] for name in ("calm", "disturbed"))
    assert distance(disturbed, calm) < TOLERANCE


@pytest.fixture(scope="module")
def benchmark() -> dict:
    return runpy.run_path(str(ROOT / "benchmarks/training.py"))


def test_training_at_the_papers_settings_is_fast_enough(h100, benchmark, tmp_path):
    size, compute = benchmark["PAPER"], Machine(1).claim().compute()
    store = benchmark["make_store"](tmp_path / "plate.arrow", size)
    training = benchmark["make_training"](store, size, compute, size["batch"], threads=12)
    measured = benchmark["measure_end_to_end"](training, warm=12, steps=60)
    assert measured["rate"] >= 1800 and measured["waiting"] < 0.05, measured


def test_inference_is_fast_enough(h100, benchmark, tmp_path):
    size, compute = benchmark["PAPER"], Machine(1).claim().compute()
    store = benchmark["make_store"](tmp_path / "plate.arrow", size)
    model = build_foundation(size["model"], len(store.channels), size["views"].global_size)
    model = model.to(compute.device)
    inputs = dict(store=store, size=size["views"].global_size, compute=compute, threads=12)
    inputs |= dict(forward=compute.compiled(partial(cls_tokens, model)))
    sites = np.tile(np.arange(len(store)), 10)
    cls_features(model, sites=sites[:2048], **inputs)
    begun = time.perf_counter()
    cls_features(model, sites=sites, **inputs)
    assert len(sites) / (time.perf_counter() - begun) >= 10_000
