"""What the transformers compute is what timm computes, in float64, and costs less."""

import pytest
import timm
import torch
from coda.training.dino import DinoHead, DinoNetwork
from coda.training.networks import TaskModel
from coda.training.vit import SteadyAttention, all_tokens, attend, cls_after, cls_tokens, is_plain
from timm.layers import Attention, DropPath
from torch.utils.flop_counter import FlopCounterMode

SMALL = dict(embed_dim=32, depth=3, num_heads=4, patch_size=8, in_chans=3, img_size=32)


def network(**options) -> torch.nn.Module:
    """Build a small transformer in float64 whose every parameter matters."""
    torch.manual_seed(0)
    common = dict(num_classes=0, dynamic_img_size=True, attn_layer=SteadyAttention)
    vit = timm.create_model("vit_tiny_patch16_224", **{**SMALL, **common, **options}).double()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vit.train()


def plainly(vit: torch.nn.Module, *batches: torch.Tensor) -> torch.Tensor:
    return torch.cat([vit.forward_features(views)[:, 0] for views in batches])


def views() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, 3, side, side, dtype=torch.float64) for n, side in ((4, 32), (6, 16))]


def result_and_gradients(function, vit, batches) -> list[torch.Tensor]:
    vit.zero_grad()
    result = function(vit, *batches)
    (result * torch.arange(result.numel()).view_as(result)).sum().backward()
    return [result, *(p.grad for p in vit.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 1},
        {"qkv_bias": False},
        {"init_values": 0.5},  # layer scale
        {"reg_tokens": 2},
        {"pre_norm": True},
        {"qk_norm": True},  # the plain way
        {"patch_drop_rate": 0.25},  # the plain way
    ],
    ids=str,
)
def test_cls_tokens_and_gradients_are_timms(options):
    vit, batches = network(**options), views()
    if "patch_drop_rate" in options:
        vit.eval()
    ours = result_and_gradients(cls_tokens, vit, batches)
    timms = result_and_gradients(plainly, vit, batches)
    assert len(ours) == len(timms) > 10
    for one, two in zip(ours, timms, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"qk_norm": True}], ids=str)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_all_tokens_and_gradients_are_timms(options, checkpointed):
    vit, (batch, _) = network(**options), views()
    timms = result_and_gradients(lambda vit, batch: vit.forward_features(batch), vit, [batch])
    vit.set_grad_checkpointing(checkpointed)
    ours = result_and_gradients(all_tokens, vit, [batch])
    assert ours[0].shape == (4, 17 + options.get("reg_tokens", 0), 32)
    for one, two in zip(ours, timms, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("whole", [False, True])
def test_student_and_teacher_see_what_the_plain_way_shows_them(whole):
    """Features of a DINO network in float64: all views' CLS tokens, the global views' first, with gradients."""
    batches, nets = views(), [DinoNetwork(network(), DinoHead(32, 16, 8, 12), whole) for _ in "ab"]
    student, teacher = (each.double() for each in nets)
    for head in (student.head, teacher.head):
        head.prototypes.data = (
            head.prototypes.data.float()
        )  # the last layer is float32 whatever comes before
    logits, features, tokens = student(*batches)
    timms = plainly(student.foundation, *batches)
    assert torch.allclose(features, timms, rtol=1e-9, atol=1e-9)
    assert torch.allclose(logits, student.head(timms), atol=1e-6)
    parameters = [*student.foundation.parameters()]
    weights = torch.arange(features.numel(), dtype=torch.float64).view_as(features)
    ours, theirs = (
        torch.autograd.grad((each * weights).sum(), parameters) for each in (features, timms)
    )
    assert all(
        torch.allclose(*pair, rtol=1e-9, atol=1e-8) for pair in zip(ours, theirs, strict=True)
    )
    with torch.no_grad():
        _, seen, teacher_tokens = teacher(batches[0])
        expected = teacher.foundation.forward_features(batches[0])
    assert torch.allclose(seen, expected[:, 0], rtol=1e-9, atol=1e-9)
    assert not whole or torch.allclose(teacher_tokens, expected, rtol=1e-9, atol=1e-9)


def test_recomputed_activations_change_nothing():
    vit, batches = network(), views()
    kept = result_and_gradients(cls_tokens, vit, batches)
    vit.set_grad_checkpointing(True)
    again = result_and_gradients(cls_tokens, vit, batches)
    assert all(torch.allclose(one, two) for one, two in zip(kept, again, strict=True))


class Chosen(DropPath):
    """Stochastic depth that keeps the views it is told to, in the order in which they come."""

    def __init__(self, keep: torch.Tensor):
        super().__init__(0.5)
        self.keep, self.seen = keep, 0

    def forward(self, x):
        """Drop the other views."""
        keep = self.keep[self.seen : self.seen + len(x)]
        self.seen = (self.seen + len(x)) % len(self.keep)
        return x * keep.view(-1, *[1] * (x.ndim - 1))


def test_stochastic_depth_drops_whole_views_as_timm_does():
    vit, batches = network(), views()
    for number, block in enumerate(vit.blocks):
        generator = torch.Generator().manual_seed(number)
        for name in ("drop_path1", "drop_path2"):
            keep = 2 * (torch.rand(10, generator=generator) < 0.5).double()
            setattr(block, name, Chosen(keep))
    ours = result_and_gradients(cls_tokens, vit, batches)
    timms = result_and_gradients(plainly, vit, batches)
    assert all(torch.allclose(one, two, rtol=1e-9) for one, two in zip(ours, timms, strict=True))


def test_stochastic_depth_is_random_in_training_and_off_in_evaluation():
    vit, batches = network(drop_path_rate=0.5), views()
    assert not torch.equal(cls_tokens(vit, *batches), cls_tokens(vit, *batches))
    vit.eval()
    assert torch.allclose(cls_tokens(vit, *batches), plainly(vit, *batches))


def test_compiled_as_on_a_gpu_it_gives_the_same():
    vit, batches = network(), views()
    for function, given in ((cls_tokens, batches), (all_tokens, batches[:1])):
        run = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)
        for one, two in zip(
            result_and_gradients(run, vit, given),
            result_and_gradients(function, vit, given),
            strict=True,
        ):
            assert torch.allclose(one, two)


def test_the_last_block_costs_next_to_nothing():
    """Of the demo's four blocks three are left; what they cost besides is the same."""
    options = dict(embed_dim=128, depth=4, num_heads=4, img_size=64)
    vit, image = network(**options), torch.randn(8, 3, 64, 64, dtype=torch.float64)
    counts = []
    for function in (plainly, cls_tokens):
        with FlopCounterMode(display=False) as counter:
            function(vit, image)
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.78 * counts[0]


def test_task_models_read_the_cls_token_of_the_last_block():
    model = TaskModel(network(), 32, classes=5).double()
    tokens = torch.randn(4, 17, 32, dtype=torch.float64)
    inside = model.projector(tokens)
    assert torch.allclose(cls_after(model.blocks, inside), model.blocks(inside)[:, 0])


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}], ids=str)
def test_attention_on_the_cpu_equals_timms(options):
    layer, x = network(**options).blocks[0].attn, torch.randn(2, 17, 32, dtype=torch.float64)
    assert is_plain(layer) == (options == {})
    assert torch.allclose(layer(x), Attention.forward(layer, x))


def test_attention_written_out_equals_the_fused_one():
    qkv = torch.randn(3, 7, 3 * 12, dtype=torch.float64)
    parts = qkv.unflatten(2, (3, 4, 3)).permute(2, 0, 3, 1, 4)
    fused = torch.nn.functional.scaled_dot_product_attention(*parts.unbind(0), scale=0.3)
    assert torch.allclose(attend(qkv, 4, 0.3), fused.transpose(1, 2).flatten(2))
