"""DINO: self-distillation without labels (Caron et al., ICCV 2021), as the protocol uses it."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from coda.errors import UserError
from coda.training.vit import all_tokens, cls_tokens


class MeanOverProcesses(torch.autograd.Function):
    """Mean of a tensor over all processes; so is the gradient, since each process sees all means."""

    @staticmethod
    def forward(ctx: object, tensor: torch.Tensor) -> torch.Tensor:
        """Average `tensor`, of any shape."""
        return MeanOverProcesses.average(tensor)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        """Average the gradient."""
        return MeanOverProcesses.average(gradient)

    @staticmethod
    def average(tensor: torch.Tensor) -> torch.Tensor:
        """Give the mean, the tensor itself being left alone."""
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the batches of all processes, in training only.

    PyTorch's own, `torch.nn.SyncBatchNorm`, refuses to compute on a CPU, so it cannot be tested without
    GPUs. Every process holds as many samples, so means of means are exact.
    """

    def __init__(self, width: int):
        super().__init__(width, track_running_stats=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise features (N, width) to mean 0 and variance 1 over N and processes, then scale and shift."""
        if not dist.is_initialized():
            return super().forward(features)
        wide = features.float()
        wide = wide - MeanOverProcesses.apply(wide.mean(dim=0))
        variance = MeanOverProcesses.apply(wide.square().mean(dim=0))
        normal = wide * torch.rsqrt(variance + self.eps)
        return (normal * self.weight + self.bias).to(features.dtype)


class DinoHead(nn.Module):
    """Projection from a feature to prototype logits.

    Three linear layers with GELU, a bottleneck brought to unit length, and a last layer whose
    rows have unit length too (weight normalisation with the gain fixed at 1), so a logit is the
    cosine between a feature and a prototype.

    Parameters
    ----------
    width
        Length of the feature.
    hidden, bottleneck, prototypes
        Widths of the hidden layers, of the bottleneck and of the output.
    batch_norm
        Normalise hidden layers over the batch. Departs from the protocol; needed where training
        starts from random weights, where without it the loss stays at ln(prototypes).
    """

    def __init__(
        self, width: int, hidden: int, bottleneck: int, prototypes: int, batch_norm: bool = False
    ):
        super().__init__()

        def layer(inputs: int) -> list[nn.Module]:
            norm = [BatchNorm(hidden)] if batch_norm else []
            return [nn.Linear(inputs, hidden), *norm, nn.GELU()]

        self.mlp = nn.Sequential(*layer(width), *layer(hidden), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.kaiming_uniform_(self.prototypes, a=math.sqrt(5))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (N, width) to logits (N, prototypes), in float32 whatever autocast says."""
        bottleneck = self.mlp(features).float()
        # In bfloat16 a logit near 1 moves in steps of 1/256: divided by a temperature of 0.04, 0.1 nat of the target.
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(F.normalize(bottleneck, dim=-1), F.normalize(self.prototypes, dim=-1))


class DinoNetwork(nn.Module):
    """Foundation and head: the student, or the teacher.

    Parameters
    ----------
    foundation, head
        Its parts.
    whole
        Whether all tokens of global views are of use, not their CLS tokens alone.
    """

    def __init__(self, foundation: nn.Module, head: DinoHead, whole: bool = False):
        super().__init__()
        self.foundation = foundation
        self.head = head
        self.whole = whole

    def forward(
        self,
        global_views: torch.Tensor,
        *other_views: torch.Tensor,
        controls: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Map batches of views, one batch for each size, to logits and CLS features.

        Parameters
        ----------
        global_views, other_views : float tensors, shape (N, channels, size, size)
            The views.
        controls : float tensor, shape (n, channels, size, size)
            Further views, of the size of global ones, of which only tokens are wanted.

        Returns
        -------
        logits : tensor, shape (views of all batches, prototypes)
        features : tensor, shape (views of all batches, width)
        tokens : tensor, shape (global views and controls, 1 + patches, width)
            None unless `whole`.
        """
        if not self.whole:
            features = cls_tokens(self.foundation, global_views, *other_views)
            return self.head(features), features, None
        seen = global_views if controls is None else torch.cat([global_views, controls])
        tokens = all_tokens(self.foundation, seen)
        features = tokens[: len(global_views), 0]
        if other_views:
            features = torch.cat([features, cls_tokens(self.foundation, *other_views)])
        return self.head(features), features, tokens


def freeze_last_blocks(student: nn.Module, teacher: nn.Module, count: int) -> None:
    """Freeze the last blocks and the last norm of two foundations as they are in the teacher.

    The task model was trained on the teacher's tokens, so the teacher's blocks are those to keep; the student gets
    them too, and the teacher, which follows it, never leaves them. Gradients flow through frozen blocks
    to those before them.

    Parameters
    ----------
    student, teacher
        Transformers of timm of the same shape.
    count
        How many blocks; with 0 nothing is frozen.

    Raises
    ------
    UserError
        If there are fewer blocks.
    """
    if count > len(student.blocks):
        raise UserError(
            f"adapt.frozen_blocks is {count}, but the foundation has {len(student.blocks)} blocks; lower it."
        )
    if count:
        pairs = zip(
            [*student.blocks[-count:], student.norm],
            [*teacher.blocks[-count:], teacher.norm],
            strict=True,
        )
        for learned, kept in pairs:
            learned.load_state_dict(kept.state_dict())
            learned.requires_grad_(False)


def dino_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    centre: torch.Tensor,
    student_temperature: float,
    teacher_temperature: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy between the teacher's and the student's prototype probabilities.

    Every student view is compared with both global views of the teacher, a view with itself left
    out; the mean is over all pairs and samples.

    Parameters
    ----------
    student : tensor, shape (views, N, prototypes)
        Logits; the first two views are the global ones, in the teacher's order.
    teacher : tensor, shape (2, N, prototypes)
        Logits of the global views.
    centre : tensor, shape (prototypes,)
        Running mean of the teacher's logits.
    student_temperature, teacher_temperature
        Divisors of the logits; a smaller one sharpens.

    Returns
    -------
    loss : scalar tensor
    entropy : scalar tensor
        Mean entropy of the teacher's probabilities in nats; ln(prototypes) means that it says nothing.
    """
    log_probabilities = F.log_softmax(student.float() / student_temperature, dim=-1)
    targets = F.softmax((teacher.float() - centre) / teacher_temperature, dim=-1).detach()
    # Sum over all pairs of (teacher view, student view), then take the pairs of equal views off.
    everything = (targets.sum(dim=0) * log_probabilities.sum(dim=0)).sum(dim=-1)
    equal = (targets * log_probabilities[:2]).sum(dim=(0, -1))
    pairs = 2 * len(student) - 2
    loss = -(everything - equal).mean() / pairs
    entropy = torch.special.entr(targets).sum(dim=-1).mean()
    return loss, entropy


@torch.no_grad()
def update_centre(centre: torch.Tensor, mean: torch.Tensor, momentum: float) -> None:
    """Move `centre` (prototypes,) towards the mean of the teacher's logits, over all processes."""
    if dist.is_initialized():
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    centre.lerp_(mean, 1 - momentum)


@torch.no_grad()
def update_teacher(
    teacher: list[torch.Tensor], student: list[torch.Tensor], momentum: float
) -> None:
    """Move the teacher's parameters towards the student's: t <- m t + (1 - m) s, all at once."""
    torch._foreach_lerp_(teacher, student, 1 - momentum)
