"""The real Snakefile on Slurm with the shipped profile, and what Slurm remembers of its jobs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml
from places import ROOT

CONFIG = os.environ.get("CONFIG", "config/tiny.yaml")
PATIENCE = 1800.0  # seconds that any one thing may take, on a busy machine too
started: list[subprocess.Popen] = []


@dataclass(frozen=True)
class Job:
    """A Slurm job, as ``scontrol show job`` tells it.

    Attributes
    ----------
    what : str
        Rule and wildcards.
    begun, ended : datetime
        From when to when it had its node, by full seconds.
    minutes, memory : str
        Its time limit and memory as Slurm writes them.
    """

    number: int
    what: str
    state: str
    begun: datetime
    ended: datetime
    gpus: int
    minutes: str
    memory: str


def jobs(folder: Path, rule: str = "") -> list[Job]:
    """List all jobs of a folder whose name begins with `rule`, in the order of submission."""
    said = subprocess.run(
        ["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for line in said.splitlines():
        facts = dict(re.findall(r"(\w+)=(\S*)", line))
        what = facts.get("Comment", "").removeprefix("rule_")
        if facts.get("WorkDir") != str(folder) or not what.startswith(rule):
            continue
        times = [_time(facts[name]) for name in ("StartTime", "EndTime")]
        gpus = re.search(r"gpu:(\d+)", facts.get("TresPerJob", ""))
        found.append(
            Job(int(facts["JobId"]), what, facts["JobState"], *times, int(gpus[1]) if gpus else 0,
                facts["TimeLimit"], facts["MinMemoryNode"])
        )  # fmt: skip
    return sorted(found, key=lambda job: job.number)


def _time(text: str) -> datetime:
    return datetime.max if text == "Unknown" else datetime.fromisoformat(text)


def overlapping(spans: list[tuple]) -> list[tuple]:
    """List neighbours among (begin, end) spans of which the second begins before the first ends."""
    spans = sorted(spans)
    return [(a, b) for a, b in zip(spans, spans[1:], strict=False) if b[0] < a[1]]


@dataclass(frozen=True)
class Run:
    """A folder to run the workflow in, with its config and its profile."""

    folder: Path
    config: Path
    profile: Path

    @classmethod
    def prepare(cls, folder: Path, partition: str, changes: dict, rules: dict[str, dict]) -> "Run":
        """Write a config with `changes`, and the shipped profile fitted to the test cluster.

        There is no accounting database; status is asked for often; no job takes more threads than
        there are. `rules` adds resources of single rules.
        """
        folder.mkdir(exist_ok=True)
        config = yaml.safe_load((ROOT / CONFIG).read_text())
        for section, values in changes.items():
            config[section] = {**config.get(section, {}), **values}
        profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
        profile |= {
            "slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 3, "latency-wait": 10,
            "slurm-keep-successful-logs": True, "max-threads": os.cpu_count(),
        }  # fmt: skip
        if not partition:  # a cluster with accounts and partitions of other names
            del profile["default-resources"]["slurm_account"]
            for resources in [profile["default-resources"], *profile["set-resources"].values()]:
                del resources["slurm_partition"]
        for rule, resources in rules.items():
            profile["set-resources"].setdefault(rule, {}).update(resources)
        for name, content in (("run.yaml", config), ("profile.yaml", profile)):
            (folder / name).write_text(yaml.safe_dump(content))
        return cls(folder, folder / "run.yaml", folder / "profile.yaml")

    @property
    def results(self) -> Path:
        """Where the results lie."""
        return self.folder / yaml.safe_load(self.config.read_text())["results"]

    def start(self, *words: str, pause: float = 0.0) -> subprocess.Popen:
        """Start Snakemake as users are told to, in a process group of its own.

        `pause` makes trainings last: seconds of rest in each step.
        """
        command = [
            sys.executable, str(ROOT / "tools/run_alone.py"), sys.executable, "-m", "snakemake",
            "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(self.config),
            "--workflow-profile", str(self.profile), *words,
        ]  # fmt: skip
        paths = [str(ROOT / "tests/cluster/standin"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1", "STANDIN_LOG": str(self.folder / "devices.txt"),
            "STANDIN_PAUSE": str(pause),
        }  # fmt: skip
        with open(self.folder / "output.txt", "a") as output:
            running = subprocess.Popen(
                command, cwd=self.folder, stdout=output, stderr=output, env=environment, start_new_session=True
            )  # fmt: skip
        started.append(running)
        return running

    def finish(self, running: subprocess.Popen) -> None:
        """Wait for the end, which must be a good one."""
        assert running.wait(PATIENCE) == 0, self.output()[-6000:]

    def output(self) -> str:
        """Give all that Snakemake said."""
        return (self.folder / "output.txt").read_text()

    def said_by(self, job: "Job") -> str:
        """Give what a Slurm job said."""
        (path,) = (self.folder / ".snakemake/slurm_logs").rglob(f"{job.number}.log")
        return path.read_text()

    def await_while(self, running: subprocess.Popen, happened: Callable[[], bool]) -> None:
        """Wait until something happened, which it must while Snakemake runs."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            self.check(running, deadline)
            time.sleep(0.3)

    def check(self, running: subprocess.Popen, deadline: float) -> None:
        """Fail, with all that Snakemake said, when it has ended or the time is up."""
        assert running.poll() is None and time.monotonic() < deadline, self.output()[-6000:]


def kill(running: subprocess.Popen) -> None:
    """End Snakemake, and what wraps it, at once."""
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def kill_all() -> None:
    """End every Snakemake that a failed test left."""
    for running in started:
        if running.poll() is None:
            kill(running)
