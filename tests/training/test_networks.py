import numpy as np
import pytest
import torch
from coda.errors import UserError
from coda.training.networks import (
    Supervised,
    TaskModel,
    build_foundation,
    load_tensors,
    load_weights,
)
from coda.training.settings import ModelSettings
from safetensors.torch import save_file

SMALL = ModelSettings(
    "vit_tiny_patch16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}, "random"
)


def test_foundation_gives_all_tokens_at_any_view_size():
    model = build_foundation(SMALL, channels=5, image_size=64).eval()
    for size in (64, 32):
        tokens = model.forward_features(torch.randn(3, 5, size, size))
        assert tokens.shape == (3, 1 + (size // 8) ** 2, 32)


def test_paper_foundation_is_deit_small():
    model = build_foundation(ModelSettings(weights="random"), channels=3, image_size=224)
    assert model.embed_dim == 384 and len(model.blocks) == 12
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(21.67e6, rel=0.01)


def test_drop_path_is_random_in_training_and_off_in_evaluation():
    model = build_foundation(SMALL, 3, 32, drop_path=0.5)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(model.eval().forward_features(x), model.eval().forward_features(x))
    model.train()
    assert not torch.equal(model.forward_features(x), model.forward_features(x))


def test_unknown_architecture_names_the_key():
    with pytest.raises(UserError, match="model.architecture"):
        build_foundation(ModelSettings("no_such_network", {}, "random"), 3, 32)


def test_unreachable_imagenet_weights_name_the_key(monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match="model.weights"):
        build_foundation(ModelSettings(), 3, 224)


def test_weights_from_a_file_are_loaded_without_their_classifier(tmp_path):
    model = build_foundation(SMALL, 3, 32)
    save_file({**model.state_dict(), "head.weight": torch.zeros(7, 32)}, tmp_path / "w.safetensors")
    again = build_foundation(
        ModelSettings(SMALL.architecture, SMALL.options, str(tmp_path / "w.safetensors")), 3, 32
    )
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_exported_foundation_loads_in_plain_timm(tmp_path):
    import timm

    model = build_foundation(SMALL, 3, 32).eval()
    save_file(model.state_dict(), tmp_path / "foundation.safetensors")
    plain = timm.create_model(
        SMALL.architecture, in_chans=3, img_size=32, num_classes=0,
        checkpoint_path=str(tmp_path / "foundation.safetensors"), **SMALL.options,
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(plain.forward_features(x), model.forward_features(x), atol=1e-5)


def test_pickled_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="safetensors"):
        load_tensors(tmp_path / "w.pt")


def test_weights_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(UserError, match="other.safetensors"):
        load_weights(
            build_foundation(SMALL, 3, 32), {"cls_token": torch.zeros(3)}, "other.safetensors"
        )


def test_task_model_is_projector_blocks_norm_and_cls():
    torch.manual_seed(0)
    transformer = build_foundation(SMALL, 3, 32).eval()
    task = TaskModel(transformer, 32, classes=5).eval()
    tokens = torch.randn(4, 17, 32)
    x = tokens @ task.projector.weight.T + task.projector.bias
    for block in transformer.blocks:
        x = block(x)
    expected = transformer.norm(x)[:, 0] @ task.classifier.weight.T + task.classifier.bias
    assert torch.allclose(task(tokens), expected, atol=1e-5)
    assert not any("patch_embed" in name or "pos_embed" in name for name in task.state_dict())


def test_supervised_classifies_the_cls_token():
    model = Supervised(build_foundation(SMALL, 3, 32), classes=5).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model.classifier(model.foundation.forward_features(x)[:, 0])
    assert np.allclose(model(x).detach().numpy(), expected.detach().numpy())


@pytest.mark.parametrize("kind", ["task", "supervised"])
def test_logits_are_not_rounded_to_bfloat16(kind):
    torch.manual_seed(1)
    if kind == "task":
        model, inputs = TaskModel(build_foundation(SMALL, 3, 32), 32, 5), torch.randn(40, 17, 32)
    else:
        model, inputs = Supervised(build_foundation(SMALL, 3, 32), 5), torch.randn(40, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model.eval()(inputs)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
