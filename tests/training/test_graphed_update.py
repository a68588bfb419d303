"""The update as one piece: the plain one's results, in float64 without a graph."""

import copy

import pytest
import torch
from coda.training.compute import Compute
from coda.training.dino import update_centre, update_teacher
from coda.training.graphed_update import GraphedUpdate
from coda.training.optim import decay_groups, step_optimizer
from small_training import batches, make_training
from torch import nn


def small_networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4)).double()
    # A part of the network that the loss does not see: without a gradient, it must not even decay.
    student.unused = nn.Linear(3, 3).double()
    return student, copy.deepcopy(student).requires_grad_(False)


def rates(step: int) -> tuple[float, float, float]:
    return 0.01 * step / 12, 0.1 + 0.2 * step, 0.9 + step / 200


def set_gradients(student: nn.Module, step: int) -> torch.Tensor:
    torch.manual_seed(100 + step)
    out = student[:3](torch.randn(5, 6, dtype=torch.float64))
    (10 * out.square().sum()).backward()
    return out.detach().mean(dim=0)


def test_in_float64_it_is_the_plain_update():
    (one, one_teacher), (two, two_teacher) = small_networks(), small_networks()
    centres = [torch.zeros(4, dtype=torch.float64) for _ in range(2)]
    means = [torch.zeros(4, dtype=torch.float64) for _ in range(2)]

    def finish():
        update_centre(centres[1], means[1], 0.9)
        means[1].zero_()

    groups = decay_groups([one])
    plain = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=True)
    ours = GraphedUpdate(two, two_teacher, 1.0, finish)
    for name in ("rate", "lost", "moved"):
        setattr(ours, name, getattr(ours, name).double())
    for step in range(12):
        frozen = step < 3
        rate, decay, momentum = rates(step)
        means[0] += set_gradients(one, step)
        means[1] += set_gradients(two, step)
        if frozen:
            one[2].weight.grad = None
        step_optimizer(plain, rate, decay, 1.0)
        update_teacher(list(one_teacher.parameters()), list(one.parameters()), momentum)
        update_centre(centres[0], means[0], 0.9)
        means[0].zero_()
        ours(rate, decay, momentum, [two[2].weight] if frozen else [])
        for a, b in zip(
            [*one.parameters(), *one_teacher.parameters(), centres[0]],
            [*two.parameters(), *two_teacher.parameters(), centres[1]],
            strict=True,
        ):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-14), step
    assert torch.equal(two.unused.weight, small_networks()[0].unused.weight)
    assert not torch.allclose(two[2].weight, small_networks()[0][2].weight)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_by_it_is_the_plain_one_and_goes_on_from_its_states(tiny_plates, accumulate):
    def trained(graphed: bool, stop: int | None = None) -> dict[str, torch.Tensor]:
        compute = Compute(torch.device("cpu"), "fp32", graph_updates=graphed)
        training = make_training(tiny_plates, compute, accumulate=accumulate)
        for step, (sites, draws) in enumerate(batches(training)):
            if step == stop:
                state = {k: v.clone() for k, v in training.learner.state().items()}
                training = make_training(tiny_plates, compute, accumulate=accumulate)
                training.learner.load_state(state, stop)
            if step == 10:
                break
            training.learner.train_step(sites, draws)
        return {k: v.clone() for k, v in training.learner.tensors().items()}

    plain, ours, resumed = trained(False), trained(True), trained(True, stop=6)
    assert plain.keys() == ours.keys()
    for name, value in plain.items():
        assert torch.allclose(value, ours[name], rtol=1e-3, atol=2e-5), name
        assert torch.equal(ours[name], resumed[name]), name
