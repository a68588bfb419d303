import math

import numpy as np
import pytest
import torch
from coda.training.dino import DinoHead, dino_loss, update_centre, update_teacher


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def test_loss_equals_a_loop_in_float64():
    random = np.random.default_rng(0)
    views, count, prototypes = 6, 5, 17
    student, teacher = (
        random.normal(size=(views, count, prototypes)),
        random.normal(size=(2, count, prototypes)),
    )
    centre = random.normal(size=prototypes)
    total, pairs = 0.0, 0
    for t in range(2):
        target = softmax((teacher[t] - centre) / 0.04)
        for s in range(views):
            if s != t:
                total += -(target * np.log(softmax(student[s] / 0.1))).sum(axis=-1).mean()
                pairs += 1
    targets = softmax((teacher - centre) / 0.04)
    entropy = -(targets * np.log(targets + 1e-300)).sum(axis=-1).mean()
    loss, measured = dino_loss(
        torch.tensor(student), torch.tensor(teacher), torch.tensor(centre), 0.1, 0.04
    )
    assert float(loss) == pytest.approx(total / pairs, rel=1e-5)
    assert float(measured) == pytest.approx(entropy, rel=1e-4)


def test_equal_probabilities_give_the_logarithm_of_the_prototypes():
    loss, entropy = dino_loss(
        torch.zeros(8, 4, 256), torch.zeros(2, 4, 256), torch.zeros(256), 0.1, 0.04
    )
    assert float(loss) == pytest.approx(math.log(256), rel=1e-6)
    assert float(entropy) == pytest.approx(math.log(256), rel=1e-6)


def test_no_gradient_reaches_the_teacher():
    student = torch.randn(4, 3, 8, requires_grad=True)
    teacher = torch.randn(2, 3, 8, requires_grad=True)
    dino_loss(student, teacher, torch.zeros(8), 0.1, 0.04)[0].backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_gradient_equals_finite_differences():
    student = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True)
    teacher, centre = torch.randn(2, 2, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    loss = dino_loss(student, teacher, centre, 1.0, 0.5)[0]
    loss.backward()
    step = torch.zeros_like(student)
    step[1, 0, 2] = 1e-2
    with torch.no_grad():
        ahead = dino_loss(student + step, teacher, centre, 1.0, 0.5)[0]
        behind = dino_loss(student - step, teacher, centre, 1.0, 0.5)[0]
    assert float((ahead - behind) / 2e-2) == pytest.approx(
        float(student.grad[1, 0, 2]), rel=2e-2, abs=1e-5
    )


def test_head_gives_cosines():
    head = DinoHead(16, hidden=32, bottleneck=8, prototypes=50)
    logits = head(torch.randn(200, 16))
    assert logits.shape == (200, 50)
    assert logits.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes.mul_(7.0)  # the gain is fixed at 1: the length of a row does not matter
    torch.manual_seed(0)
    inputs = torch.randn(5, 16)
    before = head(inputs)
    with torch.no_grad():
        head.prototypes.div_(7.0)
    assert torch.allclose(before, head(inputs), atol=1e-6)


def test_logits_are_not_rounded_to_bfloat16():
    torch.manual_seed(0)
    head, features = DinoHead(16, hidden=32, bottleneck=8, prototypes=50), torch.randn(40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert head.mlp(features).dtype == torch.bfloat16
        logits = head(features)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_head_has_three_linear_layers_and_batch_norm_only_on_request(batch_norm):
    head = DinoHead(16, hidden=32, bottleneck=8, prototypes=50, batch_norm=batch_norm)
    shapes = [tuple(m.weight.shape) for m in head.mlp if isinstance(m, torch.nn.Linear)]
    assert shapes == [(32, 16), (32, 32), (8, 32)]
    assert sum(isinstance(m, torch.nn.BatchNorm1d) for m in head.mlp) == 2 * batch_norm


def test_centre_is_a_running_mean():
    centre, expected = torch.zeros(3), np.zeros(3)
    random = np.random.default_rng(0)
    for _ in range(20):
        logits = random.normal(size=(2, 7, 3))
        update_centre(centre, torch.tensor(logits, dtype=torch.float32).mean(dim=(0, 1)), 0.9)
        expected = 0.9 * expected + 0.1 * logits.reshape(-1, 3).mean(axis=0)
    assert np.allclose(centre.numpy(), expected, atol=1e-6)


def test_teacher_follows_the_student():
    teacher, student = [torch.ones(3), torch.zeros(2, 2)], [torch.zeros(3), torch.ones(2, 2)]
    update_teacher(teacher, student, 0.9)
    assert torch.allclose(teacher[0], torch.full((3,), 0.9))
    assert torch.allclose(teacher[1], torch.full((2, 2), 0.1))
    update_teacher(teacher, student, 1.0)
    assert torch.allclose(teacher[0], torch.full((3,), 0.9))
