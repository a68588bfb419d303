"""Settings of networks, views and trainings; the defaults are the protocol's.

The config file gives the same names, and `config/schema.yaml` says what each may be.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelSettings:
    """Which network, and what it starts from.

    Attributes
    ----------
    architecture : str
        Name of a vision transformer in timm.
    options : dict
        Keyword arguments for it, for example ``{"depth": 4}``.
    weights : str
        ``"imagenet"`` (timm's weights, from the network or timm's cache), ``"random"``, or the path
        of a safetensors file with the weights under timm's names.
    fetched : str or None
        File that the ImageNet weights were fetched into beforehand, see
        `coda.training.initial_weights`; None fetches them now.
    convolutional : bool
        Whether it is no transformer, but a convolutional network from random weights, for the supervised baseline.
    """

    architecture: str = "deit_small_patch16_224"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = "imagenet"
    fetched: str | None = None
    convolutional: bool = False

    @property
    def file(self) -> str | None:
        """The file that holds the weights, if one does."""
        return {"imagenet": self.fetched, "random": None}.get(self.weights, self.weights)


@dataclass(frozen=True)
class ViewSettings:
    """How views are made; the defaults are the protocol's.

    Attributes
    ----------
    global_size, local_size : int
        Side of the views in pixels.
    local_count : int
        Local views a sample, half of them from the partner.
    flip : float
        Probability of a flip, for each axis.
    photometric : float
        Probability that a global view's intensities change at all.
    shift : float
        Standard deviation of the shift, as a share of the 8-bit range, per channel.
    gamma, gamma_limit : float
        Standard deviation of the exponent around 1, per channel, and how far from 1 it may go.
    photometric_local : bool
        Whether local views change their intensities too; the protocol changes global ones only.
    scale : float
        Views cover up to this factor more or fewer pixels (log-uniform), for labs whose pixel sizes
        differ. 1 cuts exact pixels.
    blur, noise : float
        Largest standard deviation of a Gaussian blur in pixels, and of added noise in units of the
        view's own standard deviation. Uniform in between; 0 leaves them out.
    drop_channel : float
        Probability that a channel of a view is blanked, never all of them.
    """

    global_size: int = 224
    local_size: int = 96
    local_count: int = 6
    flip: float = 0.5
    photometric: float = 0.5
    shift: float = 0.005
    gamma: float = 0.005
    gamma_limit: float = 0.005
    photometric_local: bool = False
    scale: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    drop_channel: float = 0.0


@dataclass(frozen=True)
class HeadSettings:
    """The DINO head; see `coda.training.dino.DinoHead` for what each is."""

    hidden: int = 2048
    bottleneck: int = 256
    prototypes: int = 4096
    batch_norm: bool = False


@dataclass(frozen=True)
class TrainingSettings:
    """What all trainings have, each with defaults of its own.

    Attributes
    ----------
    epochs, warmup_epochs : int
        How often every site is seen, and in how many of these the learning rate rises linearly from 0.
    drop_path : float
        Stochastic depth of what is trained.
    batch_size : int
        Sites of a step, of all processes together.
    learning_rate, weight_decay : float
        Of AdamW, after the rise.
    clip : float
        Largest norm of the gradient.
    """

    epochs: int
    warmup_epochs: int
    drop_path: float
    batch_size: int = 128
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    clip: float = 1.0


@dataclass(frozen=True)
class DinoSettings(TrainingSettings):
    """Settings of a DINO training; the defaults are the protocol's.

    Attributes
    ----------
    final_learning_rate, final_weight_decay : float
        Where the cosines of the two end.
    student_temperature, teacher_temperature, final_teacher_temperature : float
        Divisors of the logits; the teacher's rises linearly.
    teacher_temperature_epochs : int
        In how many epochs it does.
    teacher_momentum : float or "auto"
        Share of the teacher that stays in a step; it rises to 1 by a cosine. It starts from a number, or with
        ``"auto"`` from what fits the length of the schedule; see `coda.training.optim.teacher_momentum`.
    centre_momentum : float
        Share of the centre that stays in a step.
    frozen_epochs : int
        Epochs in which the prototypes stay as they are.
    accumulate : int
        Parts a batch is cut into to save memory. Not run-only: each part draws its own stochastic
        depth, and batch normalisation sees one part at a time.
    """

    epochs: int = 300
    warmup_epochs: int = 10
    drop_path: float = 0.1
    final_learning_rate: float = 1e-6
    final_weight_decay: float = 1e-4
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    final_teacher_temperature: float = 0.07
    teacher_temperature_epochs: int = 30
    teacher_momentum: float | str = 0.996
    centre_momentum: float = 0.9
    frozen_epochs: int = 1
    accumulate: int = 1


@dataclass(frozen=True)
class AdaptSettings(DinoSettings):
    """Settings of an adaptation; by default it is the protocol's, DINO and nothing else.

    Attributes
    ----------
    frozen_blocks : int
        Last blocks of the foundation that stay as the task model knows them, and its last norm too; 0 adapts all.
    patch_term, hold_moments : float
        Weights of terms of the loss beside DINO's; see `coda.training.adaptation_terms`. 0 leaves them out.
    """

    frozen_blocks: int = 0
    patch_term: float = 0.0
    hold_moments: float = 0.0


@dataclass(frozen=True)
class ConsensusSettings:
    """Settings of the consensus that an adaptation holds to; see `coda.training.consensus`.

    Attributes
    ----------
    weight : float
        Weight of `coda.training.adaptation_terms.ConsensusTerm` beside DINO's loss.
    aligned : bool
        Whether the task model sees aligned tokens where it finds the consensus.
    balanced : bool
        Whether the consensus gives each class the share of compounds that it has in the training source.
    """

    weight: float = 3.0
    aligned: bool = True
    balanced: bool = True


@dataclass(frozen=True)
class TaskSettings(TrainingSettings):
    """Settings of a classifier's training: the task model's, or the supervised baseline's.

    Attributes
    ----------
    depth : int or None
        Blocks of the task model's transformer; those of the architecture by default.
    """

    epochs: int = 50
    warmup_epochs: int = 3
    drop_path: float = 0.0
    depth: int | None = None


@dataclass(frozen=True)
class WatchSettings:
    """How a training is watched; nothing here changes what comes out of it.

    Attributes
    ----------
    save_minutes : float
        Longest time between saved states, in minutes; they are saved at the ends of epochs too, as long as
        that takes no more than 5 % of the time.
    patience : int
        Collapsed epochs in a row before a training stops.
    tensorboard : bool
        Write the log as events for TensorBoard too.
    folder : str or Path
        Where the events go.
    """

    save_minutes: float = 10.0
    patience: int = 10
    tensorboard: bool = False
    folder: str | Path = "events"


@dataclass(frozen=True)
class TentSettings:
    """Settings of TENT; the defaults are its paper's for ImageNet.

    Attributes
    ----------
    epochs, batch_size, learning_rate
        Of plain gradient descent with momentum 0.9.
    """

    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 0.00025
