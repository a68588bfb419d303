"""What Slurm hands out counts as a GPU here, and what would be computed on it is computed on the CPU.

Python imports this by itself where the folder is on PYTHONPATH: in all jobs of the cluster tests. Each job
notes the device it took, and for how long, in the file that STANDIN_LOG names. STANDIN_PAUSE gives the
seconds that a step of a training rests.
"""

import atexit
import importlib.abc
import importlib.machinery
import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

taken: set[str] = set()


def note(event: str, device: str) -> None:
    """Append a line: when, which Slurm job, device, taken or left."""
    line = f"{time.time():.3f} {os.environ.get('SLURM_JOB_ID', '-')} {device} {event}\n"
    with open(os.environ["STANDIN_LOG"], "a") as log:
        log.write(line)


def stand_in(machine) -> None:
    """Give `Machine` a GPU for each device in CUDA_VISIBLE_DEVICES."""
    claim, compute = machine.Machine.claim, machine.Machine.compute

    def claim_noted(self):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = visible.split(",") if visible else []
        with (
            patch("torch.cuda.is_available", return_value=bool(devices)),
            patch("torch.cuda.device_count", return_value=len(devices)),
            patch("torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid=devices[n])),
        ):
            claimed = claim(self)
        for device in {devices[number] for number in claimed.devices} - taken:
            taken.add(device)
            note("taken", device)
            atexit.register(note, "left", device)
        return claimed

    def compute_on_cpu(self, rank=0, ranks=1):
        return compute(replace(self, gpus=0), rank, ranks)

    machine.Machine.claim, machine.Machine.compute = claim_noted, compute_on_cpu


def slow_down(learner) -> None:
    """Rest in each step of a training, so that a test can catch it at work however fast the machine is."""
    step, pause = learner.DinoLearner.train_step, float(os.environ.get("STANDIN_PAUSE", 0))

    def train_step(self, *arguments):
        time.sleep(pause)
        return step(self, *arguments)

    learner.DinoLearner.train_step = train_step


class Changes(importlib.abc.MetaPathFinder):
    """Changes modules of the workflow right after they are imported."""

    by_name = {"coda.training.compute": stand_in, "coda.training.dino_trainer": slow_down}

    def find_spec(self, name, path=None, target=None):
        """Find a module to change as Python does, and wrap its loader."""
        if name not in self.by_name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.by_name[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Changes())
