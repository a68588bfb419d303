"""Networks: the foundation (a timm vision transformer), the task model on its tokens, and both in one."""

from dataclasses import replace
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from coda.errors import UserError
from coda.training.convolutional import LEAST_SIDE, Convolutional
from coda.training.settings import ModelSettings
from coda.training.vit import SteadyAttention, cls_after, cls_tokens


def build_foundation(
    settings: ModelSettings,
    channels: int,
    image_size: int,
    drop_path: float = 0.0,
    depth: int | None = None,
) -> nn.Module:
    """Build the generic feature extractor.

    Parameters
    ----------
    settings
        Architecture and starting weights.
    channels
        Channels of an image. timm adapts pretrained weights to any number.
    image_size
        Side of a global view in pixels; other sizes get interpolated position embeddings.
    drop_path
        Rate of stochastic depth at the last block.
    depth
        Number of blocks, where it departs from the architecture's.

    Returns
    -------
    nn.Module
        ``forward_features`` gives all tokens after the last norm: (N, 1 + patches, width).

    Raises
    ------
    UserError
        If the architecture is unknown, or the weights cannot be had or do not fit.
    """
    options = dict(settings.options)
    if depth is not None:
        options["depth"] = depth
    shape = dict(in_chans=channels, img_size=image_size, num_classes=0, drop_path_rate=drop_path)
    try:
        model = timm.create_model(
            settings.architecture,
            pretrained=settings.weights == "imagenet" and settings.file is None,
            dynamic_img_size=True,
            attn_layer=SteadyAttention,
            **shape,
            **options,
        )
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"model.architecture {settings.architecture!r} with model.options {options} and "
            f"model.weights {settings.weights!r} cannot be built: {error}"
        ) from error
    except OSError as error:
        raise UserError(
            f"The ImageNet weights of {settings.architecture} cannot be fetched ({type(error).__name__}); set "
            "model.weights to the path of a safetensors file with them, or to 'random'."
        ) from error
    if settings.file is not None:
        load_weights(model, load_tensors(settings.file), f"model.weights {settings.file}")
    return model


def load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; nothing in it is ever executed.

    Raises
    ------
    UserError
        If the file is missing or not a safetensors file.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own type for malformed files
        raise UserError(
            f"The weights file {path} cannot be read as safetensors: {error}"
        ) from error


def load_weights(model: nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Load `tensors` into `model`; a classifier ``head.`` in the file is left out.

    Raises
    ------
    UserError
        If names or shapes differ.
    """
    tensors = {
        key: value for key, value in tensors.items() if not key.startswith(("head.", "head_dist."))
    }
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"The weights of {name} do not fit the model: {error}") from error


def in_float32(layer: nn.Linear, features: torch.Tensor) -> torch.Tensor:
    """Apply the last layer in float32 whatever autocast says: in bfloat16 the best two logits may tie."""
    with torch.autocast(features.device.type, enabled=False):
        return layer(features.float())


class TaskModel(nn.Module):
    """Classifier of mechanisms of action on the foundation's tokens.

    One linear layer, then the blocks and the norm of a second transformer (its patch and position
    embeddings are not used), then a linear layer from its CLS token to the classes.

    Parameters
    ----------
    transformer
        The second transformer, from `build_foundation`.
    width
        Width of the foundation's tokens.
    classes
        Number of classes.
    """

    def __init__(self, transformer: nn.Module, width: int, classes: int):
        super().__init__()
        self.projector = nn.Linear(width, transformer.embed_dim)
        self.blocks = transformer.blocks
        self.norm = transformer.norm
        self.classifier = nn.Linear(transformer.embed_dim, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, 1 + patches, width) to logits (N, classes)."""
        return in_float32(
            self.classifier, self.norm(cls_after(self.blocks, self.projector(tokens)))
        )


class Supervised(nn.Module):
    """The end-to-end baseline: a foundation and a linear classifier on its CLS token."""

    def __init__(self, foundation: nn.Module, classes: int):
        super().__init__()
        self.foundation = foundation
        self.classifier = nn.Linear(foundation.embed_dim, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Map views (N, channels, size, size) to logits (N, classes)."""
        return in_float32(self.classifier, cls_tokens(self.foundation, views))


class OnCls(nn.Module):
    """A classifier that looks at the CLS token only."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, 1 + patches, width) to logits (N, classes)."""
        return in_float32(self.classifier, tokens[:, 0])


def build_supervised(
    model: ModelSettings,
    classes: int,
    channels: int,
    image_size: int,
    depth: int | None = None,
    drop_path: float = 0.0,
) -> Supervised:
    """Build the supervised baseline: a transformer as `build_foundation` does, or a convolutional network."""
    if model.convolutional:
        if image_size < LEAST_SIDE:
            raise UserError(
                f"views.global_size is {image_size}, too small for a convolutional network (supervised_network), which "
                f"looks at a 32nd of it in the end; make it {LEAST_SIDE} or more."
            )
        return Supervised(Convolutional(model.architecture, channels), classes)
    return Supervised(build_foundation(model, channels, image_size, drop_path, depth), classes)


def build_task_model(
    model: ModelSettings,
    depth: int | None,
    classes: int,
    channels: int,
    image_size: int,
    drop_path: float = 0.0,
) -> TaskModel:
    """Build the task model: the blocks of a second transformer that starts where `model` does.

    Parameters
    ----------
    model, depth
        Architecture and starting weights, and the number of blocks where it departs from the architecture's.
    classes
        Number of classes.
    channels, image_size, drop_path
        As in `build_foundation`; the task model's tokens are those of a foundation built with them.
    """
    transformer = build_foundation(model, channels, image_size, drop_path, depth)
    return TaskModel(transformer, transformer.embed_dim, classes)


def load_foundation(path: str, model: ModelSettings, channels: int, image_size: int) -> nn.Module:
    """Load the trained foundation at `path`, frozen and in evaluation mode; see `build_foundation`."""
    foundation = build_foundation(replace(model, weights="random"), channels, image_size)
    load_weights(foundation, load_tensors(path), str(path))
    return foundation.eval().requires_grad_(False)


def load_task_model(
    path: str, model: ModelSettings, channels: int, image_size: int, depth: int | None
) -> TaskModel:
    """Load the trained task model at `path`; see `build_task_model`."""
    tensors = load_tensors(path)
    classes, random = len(tensors["classifier.weight"]), replace(model, weights="random")
    network = build_task_model(random, depth, classes, channels, image_size)
    load_weights(network, tensors, path)
    return network


def load_supervised(
    path: str, model: ModelSettings, channels: int, image_size: int, depth: int | None
) -> Supervised:
    """Load the trained supervised baseline at `path`; see `build_supervised`."""
    tensors, random = load_tensors(path), replace(model, weights="random")
    classes = len(tensors["classifier.weight"])
    network = build_supervised(random, classes, channels, image_size, depth)
    load_weights(network, tensors, path)
    return network
