"""The network is built first of all, and ImageNet weights become a file with a checksum."""

from pathlib import Path

import pytest
import timm
import torch
from coda.errors import UserError
from coda.provenance import file_checksum
from coda.training.checkpoints import read_header, weights_checksum
from coda.training.initial_weights import prepare_start
from coda.training.networks import build_foundation, load_tensors
from coda.training.settings import ModelSettings, ViewSettings
from safetensors.torch import save_file

OPTIONS = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
NAME = "vit_tiny_patch16_224"
VIEWS = ViewSettings(global_size=32, local_size=16)


def prepare(path: Path, weights: str = "random", views: ViewSettings = VIEWS, **changed) -> Path:
    settings = dict(channels=3, crop_size=48, depths={"classify": None, "supervise": None})
    model = ModelSettings(NAME, {**OPTIONS, **changed.pop("options", {})}, weights)
    prepare_start(path / "start.safetensors", model, views, **{**settings, **changed})
    return path / "start.safetensors"


@pytest.fixture
def hub(monkeypatch) -> torch.nn.Module:
    """timm with weights of its own at hand, in place of the hub that it would ask."""
    create = timm.create_model
    torch.manual_seed(5)
    published = create(NAME, in_chans=3, img_size=32, num_classes=0, **OPTIONS)

    def create_model(*names, pretrained=False, **options):
        model = create(*names, **options)
        if pretrained:
            model.load_state_dict(published.state_dict())
        return model

    monkeypatch.setattr(timm, "create_model", create_model)
    return published


def test_imagenet_weights_become_a_file_that_trainings_start_from(hub, tmp_path):
    path = prepare(tmp_path, "imagenet")
    origin = read_header(path)["origin"]
    assert origin["architecture"] == NAME and origin["hf_hub_id"].startswith("timm/")
    fetched = ModelSettings(NAME, OPTIONS, "imagenet", fetched=str(path))
    network = build_foundation(fetched, 3, 32)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, hub.state_dict()[name]), name
    assert weights_checksum(vars(fetched)) == {str(path): file_checksum(path)}


def test_fetched_weights_need_no_hub(hub, tmp_path, monkeypatch):
    path, create = prepare(tmp_path, "imagenet"), timm.create_model

    def offline(*names, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return create(*names, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    build_foundation(ModelSettings(NAME, OPTIONS, "imagenet", fetched=str(path)), 3, 32)
    with pytest.raises(UserError, match="cannot be fetched"):
        build_foundation(ModelSettings(NAME, OPTIONS, "imagenet"), 3, 32)


def test_a_random_start_keeps_no_weights(tmp_path):
    path = prepare(tmp_path)
    assert load_tensors(path) == {}
    count = sum(
        parameter.numel()
        for parameter in build_foundation(
            ModelSettings(NAME, OPTIONS, "random"), 3, 32
        ).parameters()
    )
    assert read_header(path)["parameters"] == count


@pytest.mark.parametrize(
    "changed, words",
    [
        (dict(options={"embed_dims": 3}), "model.options"),
        (dict(views=ViewSettings(global_size=30, local_size=16)), "views.global_size is 30"),
        (dict(views=ViewSettings(global_size=64, local_size=16)), "larger than the crops"),
        (dict(weights="nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_what_no_training_could_do_is_told_at_once(tmp_path, changed, words):
    with pytest.raises(UserError, match=words):
        prepare(tmp_path, **changed)
    assert not list(tmp_path.iterdir())


def test_a_classifier_of_another_depth_than_its_weights_is_told(tmp_path):
    model = build_foundation(ModelSettings(NAME, OPTIONS, "random"), 3, 32)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    mine = str(tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match="supervise.depth = 1"):
        prepare(tmp_path, mine, depths={"classify": None, "supervise": 1})
    prepare(tmp_path, mine, depths={"classify": 2, "supervise": None})
    prepare(
        tmp_path, depths={"classify": 1, "supervise": 1}
    )  # from random weights any depth will do


def test_missing_tensorboard_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="watch.tensorboard"):
        prepare(tmp_path, tensorboard=True)
