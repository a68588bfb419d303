"""A DINO training so small that tests can run it many times; also a program, so that tests can kill it.

python small_training.py FOLDER PLATE [PLATE ...]   trains into FOLDER
"""

import os
import sys
from pathlib import Path

from coda.compute import run_ranks
from coda.learner import DinoLearner
from coda.settings import WatchSettings

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

OFTEN = WatchSettings(save_minutes=1e-9)


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
    precision: str = "bf16",
    **options,
) -> None:
    """Train on `plates`, all but the last, and judge by the last unless told otherwise."""
    from coda.foundation import train_foundation
    from coda.machine import Machine

    options.setdefault("validation", plates[-1:])
    options.setdefault("outputs", outputs_in(folder))
    machine = Machine(gpus, 1, precision)
    train_foundation(
        plates[:-1], settings=settings, seed=seed, machine=machine, what="test", **options
    )


def run_in_two(function, gpus: int, job: dict) -> None:
    """Train in two processes on the CPU, in place of one a GPU."""
    run_ranks(count_steps, 2, function, job)


def count_steps(rank: int, ranks: int, function, job: dict) -> None:
    """Train as one of several processes, and keep its number of steps in the file ``steps_<rank>``."""
    update, file = DinoLearner.update, Path(job["outputs"]["log"]).with_name(f"steps_{rank}")
    DinoLearner.update = lambda self: update(self) or file.write_text(str(self.step))
    function(rank, ranks, job)


if __name__ == "__main__":
    import coda.foundation

    stop = int(os.environ.get("KILL_AFTER_STEP", -1))
    update = DinoLearner.update

    def update_then_die(self) -> None:
        """Die like by kill -9 in the middle of the loop, after the given step of the training."""
        update(self)
        if self.step == stop:
            os.kill(os.getpid(), 9)

    DinoLearner.update = update_then_die
    if os.environ.get("RANKS") == "2":
        import small_training  # what other processes are to find by name

        coda.foundation.launch = small_training.run_in_two
    settings = settings_with(epochs=int(os.environ.get("EPOCHS", 2)))
    train(Path(sys.argv[1]), sys.argv[2:], settings, watch=OFTEN)
