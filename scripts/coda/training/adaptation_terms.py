"""Terms of an adaptation's loss beside DINO's: what holds the adapted tokens where the frozen task model reads them.

DINO's loss reads CLS tokens alone, while the task model reads all tokens; and nothing in it keeps them where the task
model expects them. Each term here is a switch of the config's section ``adapt``, off by default. None of
them trains the task model, and none knows a label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from coda.training.alignment import SMALLEST, TokenStatistics
from coda.training.dino import DinoHead, MeanOverProcesses, dino_loss, update_centre
from coda.training.settings import AdaptSettings


@dataclass(frozen=True)
class Seen:
    """What the terms look at: some sites of a batch, as the networks see them.

    Attributes
    ----------
    student : tensor, shape (2 N, 1 + patches, width)
        The student's tokens of the global views: of N sites, then of their partners.
    teacher : tensor, shape (2 N, 1 + patches, width), or None
        The teacher's tokens of the same views; None where no term reads them.
    controls : tensor, shape (n, 1 + patches, width)
        The student's tokens of negative controls, drawn for each step; none where no term reads them.
    rows : int64 tensor, shape (N,)
        Rows of the store of the N sites.
    heads : tuple of DinoHead
        Those of student and teacher.
    temperature : scalar tensor
        That of the teacher.
    """

    student: torch.Tensor
    teacher: torch.Tensor | None
    controls: torch.Tensor
    rows: torch.Tensor
    heads: tuple[DinoHead, DinoHead]
    temperature: torch.Tensor


class Term:
    """One term of the loss.

    Attributes
    ----------
    name : str
        Its name in the log.
    weight : float
        Its weight beside DINO's loss, which has 1.
    reads_teacher : bool
        Whether it reads the teacher's tokens.
    """

    name: str
    reads_teacher = False

    def __init__(self, weight: float):
        self.weight = weight

    def __call__(self, seen: Seen) -> torch.Tensor:
        """Give its value, a scalar."""
        raise NotImplementedError

    def end_step(self, step: int) -> None:
        """Bring along what follows the student, after a step; the first has the number 0."""

    def state(self) -> dict[str, torch.Tensor]:
        """Give what its next value depends on, besides the networks."""
        return {}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go back to such a state."""


class PatchTerm(Term):
    """DINO on patch tokens: the mean patch token of a site against that of its partner.

    In the last block the patches' outputs get no gradient from DINO's loss, which reads the CLS token. Here the mean
    of a global view's patch tokens goes through the same head (iBOT, Zhou et al., ICLR 2022, shares it too) and
    DINO's loss compares the student's of either global view with the teacher's of the other. iBOT instead masks
    patches and has the student restore the teacher's token of each. That needs a token for masked patches, which a
    foundation of step 1 lacks, and teaches what a patch's surroundings say of it. What has to change
    between labs is common to all patches of a field, and a mean over the field (global average pooling) is made of
    just that; since the views are of two sites, of two batches where there are, no masks are needed to
    keep the task from being trivial. Its price: differences between the patches of a field are not held.

    It has a centre of its own, as patch tokens use prototypes otherwise than CLS tokens do. The first step sets it,
    later ones move it by the momentum of DINO's.

    Parameters
    ----------
    weight
        Its weight.
    settings
        Those of the adaptation: temperature of the student, momentum of the centre, parts of a batch.
    prototypes, device
        Length of the centre, and where it lies.
    """

    name = "patch_loss"
    reads_teacher = True

    def __init__(
        self, weight: float, settings: AdaptSettings, prototypes: int, device: torch.device
    ):
        super().__init__(weight)
        self.settings = settings
        self.centre = torch.zeros(prototypes, device=device)
        self.mean = torch.zeros_like(self.centre)

    def __call__(self, seen: Seen) -> torch.Tensor:
        """Give DINO's loss of the mean patch tokens."""
        pairs = (2, len(seen.student) // 2)
        student_head, teacher_head = seen.heads
        student = student_head(seen.student[:, 1:].mean(dim=1)).unflatten(0, pairs)
        with torch.no_grad():
            teacher = teacher_head(seen.teacher[:, 1:].mean(dim=1)).unflatten(0, pairs)
        self.mean += teacher.float().mean(dim=(0, 1)) / self.settings.accumulate
        temperature = self.settings.student_temperature
        return dino_loss(student, teacher, self.centre, temperature, seen.temperature)[0]

    def end_step(self, step: int) -> None:
        """Move the centre."""
        update_centre(self.centre, self.mean, self.settings.centre_momentum if step else 0.0)
        self.mean.zero_()

    def state(self) -> dict[str, torch.Tensor]:
        """Give the centre."""
        return {"centre": self.centre}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the centre back."""
        self.centre.copy_(tensors["centre"])


class MomentsTerm(Term):
    """Distance of the moments of the negative controls' tokens from those of the training source's.

    Controls hold the same in all labs, so their tokens should have the moments for which the task model was trained.
    With mean m and deviation s of a dimension over the controls of a step, and m' and s' over all controls of the
    training source, the term is the mean over dimensions, CLS and patch tokens apart, of

        ((m - m') / s')^2 + (ln s - ln s')^2

    the first-order part of what Sun and Saenko (Deep CORAL, ECCV 2016) minimise on features, on wells whose content is
    known to be the same. It is alignment (`coda.training.alignment`) inside the training. Moments are over
    all target plates at once, those of CLS tokens over few sites: s is a little small for that and
    a little large for the student's stochastic depth. Dimensions that do not vary in the source are left out.

    Parameters
    ----------
    weight
        Its weight.
    wanted
        Statistics of the training source's controls.
    device
        Where tokens are.
    """

    name = "moment_distance"

    def __init__(self, weight: float, wanted: TokenStatistics, device: torch.device):
        super().__init__(weight)
        self.varies = (wanted.deviation > SMALLEST).to(device)
        self.mean = wanted.mean.float().to(device)
        self.deviation = wanted.deviation.clamp(min=SMALLEST).float().to(device)

    def __call__(self, seen: Seen) -> torch.Tensor:
        """Give the distance of `seen.controls`, in units of the source's deviations."""
        tokens = seen.controls.float()
        parts = [tokens[:, 0], tokens[:, 1:].flatten(0, 1)]
        mean = over_processes(torch.stack([part.mean(dim=0) for part in parts]))
        squares = [(part - own).square().mean(dim=0) for part, own in zip(parts, mean, strict=True)]
        variance = over_processes(torch.stack(squares))
        shift = (mean - self.mean) / self.deviation
        stretch = 0.5 * (variance + SMALLEST**2).log() - self.deviation.log()
        return (shift.square() + stretch.square())[self.varies].mean()


def over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Give the mean of a tensor over all processes that train together."""
    return MeanOverProcesses.apply(tensor) if dist.is_initialized() else tensor


class ConsensusTerm(Term):
    """Cross entropy between a compound's consensus and the frozen task model's answer to each of its sites.

    The consensus (`coda.training.consensus`) is the task model's mean over all wells of a compound, which is right more
    often than its answer to one image. It is fixed before the adaptation begins, so the foundation learns to
    show the task model in each site what it has found in all of them: distillation from an ensemble over
    replicates (Hinton et al., 2015), with soft targets.

    Parameters
    ----------
    weight
        Its weight.
    task_model
        The task model; it is frozen.
    targets : tensor, shape (rows of the store, classes)
        Probabilities; rows of zeros for sites without a consensus.
    """

    name = "consensus_loss"

    def __init__(self, weight: float, task_model: nn.Module, targets: torch.Tensor):
        super().__init__(weight)
        self.task_model = task_model.eval().requires_grad_(False)
        self.targets = targets

    def __call__(self, seen: Seen) -> torch.Tensor:
        """Give the mean cross entropy over the sites that have a consensus."""
        logits = self.task_model(seen.student[: len(seen.rows)])
        targets = self.targets[seen.rows]
        total = -(targets * F.log_softmax(logits, dim=-1)).sum()
        return total / targets.sum().clamp(min=1.0)


def weighted_sum(terms: Sequence[Term], values: Sequence[torch.Tensor]) -> torch.Tensor | float:
    """Add the terms' values, each by its weight."""
    return sum(term.weight * value for term, value in zip(terms, values, strict=True))
