"""Trainings so small that tests can run them many times; also a program, so that tests can kill it.

python small_training.py FOLDER PLATE [PLATE ...]   trains into FOLDER: a foundation by DINO, or with
NETWORK=classifier in the environment the supervised baseline; NODES=2 spreads it over two "nodes",
HELD=1 makes it wait on its way until it is asked to stop, and KILLED="step=3 save=8" has it killed
after step 3, and again once the state of step 8 is saved, before it may go on to its end
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from coda.crops.store import CropStore
from coda.training.checkpoints import StateFolder
from coda.training.classifier_trainer import ClassifierLearner
from coda.training.compute import Compute
from coda.training.dino_trainer import DinoLearner, PairedSites, steps_per_epoch
from coda.training.distributed import launch, run_ranks
from coda.training.partners import find_partners
from coda.training.settings import (
    DinoSettings,
    HeadSettings,
    ModelSettings,
    ViewSettings,
    WatchSettings,
)
from coda.training.site_selection import usable_rows
from coda.training.trainer import Interruption, Trainer
from places import SCRIPTS
from two_nodes import LAUNCHER

SETTINGS = {
    "model": {
        "architecture": "vit_tiny_patch16_224",
        "options": {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8},
        "weights": "random",
    },
    "head": {"hidden": 32, "bottleneck": 16, "prototypes": 32, "batch_norm": False},
    "views": {"global_size": 32, "local_size": 16, "local_count": 2},
    "data": {"wells": "labelled", "partners": ["batch", "plate", "well", "site"]},
    "knn": {"k": 20, "temperature": 0.1, "every": 1},
    "training": {
        "epochs": 2,
        "warmup_epochs": 1,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "drop_path": 0.1,
    },
}

CLASSIFIER = {"epochs": 3, "warmup_epochs": 1, "batch_size": 16, "learning_rate": 2e-3}

OFTEN = WatchSettings(save_minutes=1e-9)
ALIKE = {"precision": "fp32", "validation": ()}
HELD_AFTER = 13  # steps, within an epoch
KILLED = "killed at"


def settings_with(**training) -> dict:
    """Give the settings with some of the training's changed."""
    return {**SETTINGS, "training": {**SETTINGS["training"], **training}}


def outputs_in(folder: Path) -> dict[str, str]:
    """Name the outputs of a training in `folder`."""
    names = {
        "foundation": "foundation.safetensors",
        "networks": "networks.safetensors",
        "log": "log.parquet",
    }
    return {key: str(Path(folder) / name) for key, name in names.items()}


def train(
    folder: Path,
    plates: list[str],
    settings: dict = SETTINGS,
    seed: int = 3,
    gpus: int = 0,
    precision: str = "auto",
    nodes: int = 1,
    **options,
) -> None:
    """Train on `plates`, all but the last, and judge by the last unless told otherwise."""
    from coda.training.compute import Machine
    from coda.training.pretrain import FoundationJob, train_foundation

    options.setdefault("validation", plates[-1:])
    options.setdefault("outputs", outputs_in(folder))
    machine = Machine(gpus, 1, precision).spread(nodes, LAUNCHER)
    common = dict(settings=settings, seed=seed, machine=machine, what="test")
    train_foundation(FoundationJob(plates[:-1], **common, **options))


def classify(
    folder: Path,
    plates: list[str],
    foundation: str | None = None,
    seed: int = 1,
    epochs: int = 3,
    model: dict | None = None,
    views: dict | None = None,
    **options,
) -> dict[str, str]:
    """Train a classifier on `plates`, all but the last, judge by the last, and name the outputs."""
    from coda.training.classify import train_classifier
    from coda.training.compute import Machine

    folder = Path(folder)
    outputs = {"weights": str(folder / "weights.safetensors"), "log": str(folder / "log.parquet")}
    settings = {name: SETTINGS[name] for name in ("model", "views")}
    settings["training"] = {**CLASSIFIER, "epochs": epochs}
    settings |= {"model": model or settings["model"], "views": views or settings["views"]}
    options |= dict(outputs=outputs, settings=settings, seed=seed, foundation=foundation)
    train_classifier(plates[:-1], plates[-1:], machine=Machine(0, 1), what="test", **options)
    return outputs


def make_training(
    plates,
    compute=None,
    start=None,
    batch_norm=False,
    controls=(),
    terms=(),
    frozen_blocks=0,
    **training,
) -> Trainer:
    store = CropStore(plates)
    rows = usable_rows(store.table, "labelled")
    settings = DinoSettings(**{**SETTINGS["training"], **training})
    compute = compute or Compute(torch.device("cpu"), "fp32")
    learner = DinoLearner(
        channels=2,
        steps_per_epoch=steps_per_epoch(len(rows), settings, compute.ranks, "pretrain"),
        compute=compute,
        settings=settings,
        model=ModelSettings(**SETTINGS["model"]),
        head=HeadSettings(**{**SETTINGS["head"], "batch_norm": batch_norm}),
        views=ViewSettings(**SETTINGS["views"]),
        seed=5,
        start=start,
        terms=terms,
        frozen_blocks=frozen_blocks,
    )
    partners = find_partners(store.table.iloc[rows].reset_index(drop=True), ["batch", "plate"])
    return Trainer(learner, PairedSites(store, rows, partners, controls=np.array(controls, int)))


def batches(training: Trainer):
    for indices, draws in training.batches.plan(training.learner):
        pixels = training.batches.store.gather(indices.reshape(-1))
        yield torch.from_numpy(pixels).unflatten(0, indices.shape), draws


def start_training(
    folder: Path, plates: list[str], above: Sequence[str] = (), **variables: object
) -> subprocess.Popen:
    """Start small_training.py as a program of its own; `above` is the command of the program that starts it."""
    words = [*above, sys.executable, __file__, str(folder), *plates]
    settings = {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"}
    settings |= {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(
        words,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish_training(folder: Path, plates: list[str], **variables: object) -> str:
    """Start a training again, see it through, and give what it said."""
    running = start_training(folder, plates, **variables)
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 0, said
    return said


def finish_after_kills(
    folder: Path, plates: list[str], ends: Sequence[str], **variables: object
) -> str:
    """Have a training killed at each of some ends and gone on with each time; give what the last attempt said."""
    said = finish_training(folder, plates, KILLED=" ".join(ends), **variables)
    *_, last = said.rpartition(f"{KILLED} {ends[-1]}\n")
    assert said.count(KILLED) == len(ends), said
    return last


def run_in_two(function, gpus: int, job, inputs: dict) -> None:
    """Train in two processes on the CPU, in place of one a GPU."""
    run_ranks(count_steps, 2, function, job, inputs)


def count_steps(rank: int, ranks: int, function, job, inputs: dict) -> None:
    """Train as one of several processes, and keep its number of steps in the file ``steps_<rank>``."""
    update, file = DinoLearner.update, Path(job.outputs["log"]).with_name(f"steps_{rank}")
    DinoLearner.update = lambda self: update(self) or file.write_text(str(self.step))
    function(rank, ranks, job, inputs)


def run_held(function, gpus: int, job, inputs: dict) -> None:
    """Train in processes that wait after some steps until they are asked to stop."""
    launch(hold, gpus, function, job, inputs)


def hold(rank: int, ranks: int, function, job, inputs: dict) -> None:
    """Train as one of them, and say by the file ``held_<rank>`` that it waits."""
    agreed, asked = Interruption.agreed, iter(range(HELD_AFTER))

    def wait_and_agree(self) -> bool:
        if next(asked, None) is None:
            Path(job.outputs["log"]).with_name(f"held_{rank}").touch()
            while not self.asked:
                time.sleep(0.02)
        return agreed(self)

    Interruption.agreed = wait_and_agree
    function(rank, ranks, job, inputs)


def die_after(owner: type, method: str, last: int, step_of: Callable[..., int]) -> None:
    """Make a method end this process as kill -9 does, once done with step `last`."""
    act = getattr(owner, method)

    def act_then_die(self, *arguments) -> None:
        act(self, *arguments)
        if step_of(self, *arguments) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, act_then_die)


def die_at(end: str) -> None:
    """Make trainings of this process die at an end such as ``step=3`` or ``save=8``."""
    kind, _, last = end.partition("=")
    if kind == "save":
        die_after(StateFolder, "save", int(last), lambda self, step, *_: step)
    else:
        die_after(DinoLearner, "update", int(last), lambda self: self.step)
        die_after(ClassifierLearner, "train_step", int(last), lambda self, *_: self.step)


def be_killed(folder: Path, ends: Sequence[str]) -> None:
    """Return once in a process for each end, which dies there, and once in this one when all are dead.

    Processes are forked from one that has computed nothing yet, for imports take longer than trainings.
    Outputs are removed after each, as Snakemake does.
    """
    for end in ends:
        child = os.fork()
        if child == 0:
            die_at(end)
            return
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"The training was not killed at {end}.")
        print(f"{KILLED} {end}", flush=True)
        for output in folder.iterdir():
            if output.is_file():
                output.unlink()


if __name__ == "__main__":
    import coda.training.pretrain

    if os.environ.get("RANKS") == "2":
        import small_training  # what other processes are to find by name

        coda.training.pretrain.launch = small_training.run_in_two
    if "HELD" in os.environ:
        import small_training

        coda.training.pretrain.launch = small_training.run_held
    place, plates, epochs = Path(sys.argv[1]), sys.argv[2:], int(os.environ.get("EPOCHS", 2))
    be_killed(place, os.environ.get("KILLED", "").split())
    if os.environ.get("NETWORK") == "classifier":
        classify(place, plates, epochs=epochs, watch=OFTEN)
    else:
        # Stochastic depth is drawn by each process, and rounding may choose another epoch: without the two, and in
        # float32, two nodes give what one gives.
        spread = {"nodes": int(os.environ["NODES"])} | ALIKE if "NODES" in os.environ else {}
        depth = {"drop_path": 0.0} if spread else {}
        train(place, plates, settings_with(epochs=epochs, **depth), watch=OFTEN, **spread)
