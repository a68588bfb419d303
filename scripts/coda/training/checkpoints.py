"""Training states that survive a kill, and weights that carry their own history.

Both are safetensors files: tensors, and one JSON text in the header. Nothing is unpickled.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from coda.errors import UserError
from coda.files import replacing
from coda.locks import alone
from coda.orphans import orphaned
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


def checksum(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> str:
    """SHA-256 of tensors (names, types, shapes, bytes) and of a header, as JSON has it."""
    digest = hashlib.sha256(json.dumps(header, default=str, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_state(
    path: str | os.PathLike, tensors: dict[str, torch.Tensor], header: dict[str, Any]
) -> None:
    """Write tensors and a header with their checksum, for `load_state`."""
    save_weights(path, tensors, header | {"checksum": checksum(tensors, header)})


def load_state(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_state` wrote: to the bit, or not at all.

    Raises
    ------
    UserError
        If the file is missing, cut off, changed or of another kind.
    """
    try:
        tensors, header = load_file(path), read_header(path)
        stated = header.pop("checksum")
        if stated != checksum(tensors, header):
            raise ValueError("its content is not what was written")
    except (
        UserError,
        OSError,
        SafetensorError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise UserError(f"The training state {path} is not whole ({error}).") from error
    return tensors, header


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
        save_state(self.folder / f"{step:09d}.safetensors", tensors, {**header, "step": step})
        for path in self._states()[:-KEPT]:
            path.unlink()
        for other in self.parent.iterdir():
            if other.is_dir() and not other.is_symlink() and other != self.folder:
                shutil.rmtree(other)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Load the newest whole state; None where there is none."""
        return next(self.whole(), None)

    def whole(self) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
        """Load the whole states, newest first; one that is not, or that was not gone on from, is removed.

        A state of later steps that stayed would outlive those that are saved from now on.
        """
        for path in reversed(self._states()):
            try:
                yield load_state(path)
            except UserError as error:
                print(f"{error} It is left aside.", flush=True)
            _drop(path)

    def drop_newest(self) -> None:
        """Remove the newest state, which the program cannot go on from."""
        for path in self._states()[-1:]:
            _drop(path)

    def set_aside(self) -> list[str]:
        """Say what is different about states that lie here and are not resumed."""
        lying = {path.parent.name for path in self.parent.glob("*/*.safetensors")}
        return sorted(
            self.others.get(name, "of other settings, inputs or seed")
            for name in lying - {self.folder.name}
        )

    def completed(self, outputs: Iterable[str | os.PathLike]) -> bool:
        """Whether another process, which was waited for, has made all outputs of this very training.

        Snakemake removes the outputs of a job before it starts it. The header of weights names their training.
        """
        paths = [Path(path) for path in outputs]
        weights = [path for path in paths if path.suffix == ".safetensors"]
        try:
            made = all(path.is_file() for path in paths) and all(
                read_header(path).get("training") == self.folder.name for path in weights
            )
        except (UserError, AttributeError):
            return False
        if made:
            print(f"Another process has completed {weights[0]}; its result is taken.", flush=True)
            self.remove(paths)
        return made

    def remove(self, outputs: Iterable[str | os.PathLike] = ()) -> None:
        """Remove all states, once the outputs are in place.

        A training that outlived its Snakemake may find outputs gone, removed for a job that waits for it, or they will
        be by the next Snakemake; then the states stay for that job, which has no step left to take.
        """
        if orphaned():
            print(
                f"The Snakemake of this training has ended; what it came to stays in {self.parent} for the next start.",
                flush=True,
            )
        elif all(Path(path).exists() for path in outputs):
            shutil.rmtree(self.parent, ignore_errors=True)

    def _states(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if path.stem.isdigit())

    def alone(self, patience: float = math.inf) -> AbstractContextManager[None]:
        """Keep other processes from training here while the block runs, see `coda.locks.alone`.

        One that outlived its Snakemake is waited for, however long it trains: its work is gone on with, or its
        result is taken, see `completed`.
        """
        return alone(self.parent / "lock", f"trains in {self.parent}", patience)


def _drop(path: Path) -> None:
    """Remove a state, or what lies in its place."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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
        for tensors, header in self.states.whole():
            kinds = {"best": int | float, "log": list, "step": int}
            if not all(isinstance(header.get(name), kind) for name, kind in kinds.items()):
                print(
                    "A training state lacks what is needed to go on; it is left aside.", flush=True
                )
                continue
            if header["best"] >= 0:
                try:
                    load_state(self.states.best)
                except UserError as error:
                    print(
                        f"The best weights of the state after step {header['step']}: {error}",
                        flush=True,
                    )
                    continue
            self.best = header["best"]
            return tensors, header
        return None

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
            save_state(self.states.best, *self._waiting)
            self._waiting = None
        self.states.save(step, tensors, {"log": log, "best": self.best})
        self._saved = time.monotonic()
        self._took = self._saved - begun


def weights_checksum(model: dict[str, Any]) -> dict[str, str]:
    """Checksum of the file that a network starts from by ``model.weights``, if it is one."""
    path = ModelSettings(**model).file
    return {} if path is None else {path: file_checksum(path)}
