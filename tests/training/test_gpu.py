"""What only a GPU can show: resuming within a tolerance. Its speeds are for benchmarks/gpu.py to measure."""

import pytest
import torch
from coda.training.dino_trainer import DinoLearner
from safetensors.torch import load_file
from small_training import OFTEN, outputs_in, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")

# Kernels on a GPU add up in an order that differs between runs, so two of them are not equal bit for bit.
TOLERANCE = 1e-3


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
