"""Views that are made ahead: the plain ones, rounded as networks round them, and never read or written too early."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import torch
from coda.training import views_ahead
from coda.training.compute import Compute
from coda.training.dino import DinoHead, DinoNetwork
from coda.training.networks import build_foundation
from coda.training.settings import ModelSettings
from coda.training.views import centre_view
from coda.training.views_ahead import made_ahead
from small_training import SETTINGS, batches, make_training
from timm.layers import PatchEmbed

CPU = torch.device("cpu")


def training_with(plates, precision="bf16", ahead=True, noise=0.0, **options):
    training = make_training(plates, Compute(CPU, precision, views_ahead=ahead), **options)
    learner = training.learner
    learner.views = replace(learner.views, noise=noise)
    return training


def take(training, steps: int) -> torch.Tensor:
    """Take steps, and give the weights of student and teacher, the centre and the mean loss as one vector."""
    learner = training.learner
    for batch, _ in zip(learner.prepared(batches(training)), range(steps), strict=False):
        learner.train_step(*batch)
    values = [*learner.tensors().values(), torch.tensor(learner.means.so_far()["loss"])]
    return torch.cat([value.detach().double().flatten() for value in values])


@pytest.mark.parametrize("precision, kind", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_buffers_hold_the_plain_views_rounded(tiny_plates, precision, kind):
    training = training_with(tiny_plates, precision)
    learner, places = training.learner, set()
    ahead = learner.prepared(batches(training))
    for (sites, (*draws, _)), (*_, views), _ in zip(
        batches(training), ahead, range(5), strict=False
    ):
        for view, plain in zip(views, learner.make_views(sites, *draws), strict=True):
            assert view.dtype == kind and torch.equal(view, plain.to(kind))
        places.add(tuple(view.data_ptr() for view in views))
    assert len(places) == 2  # two sets that take turns


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"controls": range(4)}])
def test_losses_and_weights_are_those_of_the_plain_step(tiny_plates, precision, options):
    one, two = (training_with(tiny_plates, precision, ahead, **options) for ahead in (False, True))
    assert torch.equal(take(one, 6), take(two, 6))


def test_a_training_to_its_end_is_the_plain_one(tiny_plates):
    one, two = (training_with(tiny_plates, "fp32", ahead) for ahead in (False, True))
    assert torch.equal(take(one, 10_000), take(two, 10_000))
    assert two.learner.step == two.learner.steps


def test_noise_and_stochastic_depth_are_the_same_after_a_stop(tiny_plates):
    whole = training_with(tiny_plates, "fp32", noise=0.2, drop_path=0.5)
    expected = take(whole, 7)
    first = training_with(tiny_plates, "fp32", noise=0.2, drop_path=0.5)
    take(first, 4)
    state = {name: value.clone() for name, value in first.learner.state().items()}
    second = training_with(tiny_plates, "fp32", noise=0.2, drop_path=0.5)
    second.learner.load_state(state, 4)
    assert torch.equal(take(second, 3), expected)
    quiet = training_with(tiny_plates, "fp32", noise=0.0, drop_path=0.5)
    assert not torch.equal(take(quiet, 7), expected)


class ByConvolution(PatchEmbed):
    """Not timm's own class, so it is computed as timm does."""


@pytest.mark.parametrize("embedding", [PatchEmbed, ByConvolution])
@pytest.mark.parametrize("whole", [False, True])
def test_autocast_rounds_the_very_same_values(embedding, whole):
    """The embedding of patches is the first that computes with pixels, and it computes in bfloat16."""
    torch.manual_seed(0)
    foundation = build_foundation(ModelSettings(**SETTINGS["model"]), 2, 32)
    foundation.patch_embed.__class__ = embedding
    network = DinoNetwork(foundation, DinoHead(32, 32, 16, 32), whole).train()
    views = [torch.randn(4, 2, 32, 32), torch.randn(8, 2, 16, 16)]
    controls = centre_view(torch.randint(0, 256, (2, 2, 40, 40)), 32) if whole else None

    def results(seen: list[torch.Tensor], bf16: bool) -> list[torch.Tensor]:
        network.zero_grad()
        with Compute(CPU, "bf16" if bf16 else "fp32").autocast():
            found = [each for each in network(*seen, controls=controls) if each is not None]
        sum(each.float().square().sum() for each in found).backward()
        return [*found, *(p.grad for p in network.parameters() if p.grad is not None)]

    rounded = [view.bfloat16() for view in views]
    assert all(map(torch.equal, results(views, True), results(rounded, True)))
    # Without autocast it is another computation, so what was just equal could have differed.
    unlike = results([view.float() for view in rounded], False)
    assert not all(map(torch.equal, results(views, False), unlike))


@dataclass
class FakeStream:
    """A stream that knows what is over before what it is given next."""

    over: set[str] = field(default_factory=set)

    def wait_stream(self, other: "FakeStream") -> None:
        self.over |= other.over

    def record_event(self) -> set[str]:
        return {*self.over}

    def wait_event(self, event: set[str]) -> None:
        self.over |= event


class FakeDevice:
    """Streams of a device, of which one is the present one; keeps what is over before each piece of work begins."""

    def __init__(self):
        self.present, self.before = FakeStream(), {}

    def Stream(self) -> FakeStream:
        return FakeStream()

    def current_stream(self) -> FakeStream:
        return self.present

    @contextmanager
    def stream(self, other: FakeStream):
        outer, self.present = self.present, other
        yield
        self.present = outer

    def work(self, name: str) -> None:
        self.before[name] = {*self.present.over}
        self.present.over.add(name)


def test_nothing_is_read_before_it_is_written_nor_written_before_it_was_read(monkeypatch):
    device, places = FakeDevice(), {}
    monkeypatch.setattr(views_ahead.torch, "get_device_module", lambda _: device)

    def arriving():
        for number in range(6):
            device.work(f"copy {number}")
            yield (number,)

    def make(batch, views):
        assert device.current_stream() is not main
        device.work(f"write {batch[0]}")
        places[batch[0]] = views

    main = device.present
    for (number,), views in made_ahead(arriving(), make, Compute(CPU, "fp32")):
        assert device.current_stream() is main and views is places[number]
        device.work(f"read {number}")
    for number in range(6):
        assert f"copy {number}" in device.before[f"write {number}"]
        assert f"write {number}" in device.before[f"read {number}"]
        if number >= 2:
            assert places[number] is places[number - 2]
            assert f"read {number - 2}" in device.before[f"write {number}"]
        if number >= 1:
            # Neither waits for the other: they may run side by side.
            assert f"read {number - 1}" not in device.before[f"write {number}"]
            assert f"write {number}" not in device.before[f"read {number - 1}"]
            assert places[number] is not places[number - 1]
