"""Training states that survive a kill, and weights that carry their own history.

Both are safetensors files: tensors, and one JSON text in the header. Nothing is unpickled.
"""

import json
import os
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from coda.errors import UserError
from coda.files import replacing
from coda.locks import alone
from coda.provenance import file_checksum
from coda.training.compute import PRECISIONS, fingerprint
from coda.training.settings import ModelSettings

KEPT = 2


def save_weights(
    path: str | os.PathLike, tensors: dict[str, torch.Tensor], header: dict[str, Any]
) -> None:
    """Write tensors with a JSON header, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"format": "pt", "coda": json.dumps(header, default=str)})


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """Read the JSON header of a weights file.

    Raises
    ------
    UserError
        If the file is missing, broken or was not written by this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["coda"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The weights file {path} has no header of this program ({error!r}); make it again."
        ) from error


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put `prefix` and a dot before each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the tensors whose names start with `prefix` and a dot, without it."""
    return {
        name[len(prefix) + 1 :]: tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix + ".")
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Flatten an optimiser's moments to named tensors: ``"<parameter number>.<moment>"``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, moments in state.items()
        for name, value in moments.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put moments from `optimizer_tensors` back."""
    state = optimizer.state_dict()
    state["state"] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(state)


class StateFolder:
    """The saved states of one training: the last two, so that one whole state always exists.

    Parameters
    ----------
    folder
        Where the states lie, beside the outputs and not among them, since Snakemake removes the
        outputs of a job that was killed.
    identity
        Fingerprint of settings, inputs, seed and precision: states of another identity are never resumed, and
        go when the first state of this one is saved.
    others
        What is different about some other identities, in words.

    Attributes
    ----------
    best : Path
        Where the best weights so far are kept, beside the states that speak of them.
    """

    def __init__(
        self, folder: str | os.PathLike, identity: str, others: dict[str, str] | None = None
    ):
        self.parent, self.folder, self.others = Path(folder), Path(folder) / identity, others or {}
        self.best = self.folder / "best.safetensors"

    def save(self, step: int, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
        """Save the state after `step` steps and remove all but the last two."""
        save_weights(self.folder / f"{step:09d}.safetensors", tensors, {**header, "step": step})
        for path in self._states()[:-KEPT]:
            path.unlink()
        for other in self.parent.iterdir():
            if other.is_dir() and other != self.folder:
                shutil.rmtree(other)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Load the newest whole state; None where there is none."""
        for path in reversed(self._states()):
            try:
                return load_file(path), read_header(path)
            except (UserError, OSError, SafetensorError):
                print(f"The training state {path} is not whole and is left aside.", flush=True)
        return None

    def set_aside(self) -> list[str]:
        """Say what is different about states that lie here and are not resumed."""
        lying = {path.parent.name for path in self.parent.glob("*/*.safetensors")}
        return sorted(
            self.others.get(name, "of other settings, inputs or seed")
            for name in lying - {self.folder.name}
        )

    def remove(self) -> None:
        """Remove all states, once the outputs are in place."""
        shutil.rmtree(self.parent, ignore_errors=True)

    def _states(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if path.stem.isdigit())

    def alone(self, patience: float = 60.0) -> AbstractContextManager[None]:
        """Keep other processes from training here while the block runs, see `coda.locks.alone`.

        One that is about to end, killed a moment ago, is waited for `patience` seconds.
        """
        return alone(self.parent / "lock", f"trains in {self.parent}", patience)


def training_states(weights: str, precision: str, *identity: Any) -> StateFolder:
    """Give the states of the training that writes `weights`, beside them.

    Parameters
    ----------
    weights
        Path of the weights.
    precision
        What the training computes in: ``"bf16"`` or ``"fp32"``.
    identity
        All else that its weights follow from: settings, seed and checksums of inputs.
    """
    names = {each: fingerprint(*identity, each) for each in PRECISIONS}
    others = {name: f"of precision {each}" for each, name in names.items() if each != precision}
    return StateFolder(Path(weights).with_suffix(".states"), names[precision], others)


class StateSaver:
    """Chooses when a training's state is saved, and saves the best weights so far with it.

    An epoch can be over sooner than a state is on the disk. The state at its end is therefore saved only
    once `PATIENCE` times as long as the last saving took have passed since, so that saving takes at most
    a twentieth of a training. The best weights wait in memory for the next state: who goes on from an
    earlier one finds them again, in the same step.

    Parameters
    ----------
    states
        Where they are saved.
    minutes
        The longest time between two states.

    Attributes
    ----------
    best : float
        Best score so far; -1 before the first.
    """

    PATIENCE = 20

    def __init__(self, states: StateFolder, minutes: float):
        self.states, self.seconds, self.best = states, 60 * minutes, -1.0
        self._waiting: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None
        self._saved, self._took = time.monotonic(), 0.0

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Load the newest whole state; None where there is none to go on from."""
        loaded = self.states.load()
        if loaded is None:
            return None
        best = loaded[1]["best"]
        if best >= 0 and not self.states.best.exists():
            print(f"The best weights {self.states.best} are gone; begins anew.", flush=True)
            return None
        self.best = best
        return loaded

    def judge(self, score: float, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
        """Keep a copy of `tensors` if `score`, which is not negative, is better than any before."""
        if score > self.best:
            self.best = score
            copies = {name: each.detach().to("cpu", copy=True) for name, each in tensors.items()}
            self._waiting = copies, header

    def due(self, epoch_ends: bool) -> bool:
        """Whether it is time to save."""
        since = time.monotonic() - self._saved
        return since > self.seconds or (epoch_ends and since > self.PATIENCE * self._took)

    def save(self, step: int, tensors: dict[str, torch.Tensor], log: list[dict[str, Any]]) -> None:
        """Save the state after `step` steps; the best weights first, since the state speaks of them."""
        begun = time.monotonic()
        if self._waiting is not None:
            save_weights(self.states.best, *self._waiting)
            self._waiting = None
        self.states.save(step, tensors, {"log": log, "best": self.best})
        self._saved = time.monotonic()
        self._took = self._saved - begun


def weights_checksum(model: dict[str, Any]) -> dict[str, str]:
    """Checksum of the file that a network starts from by ``model.weights``, if it is one."""
    path = ModelSettings(**model).file
    return {} if path is None else {path: file_checksum(path)}
