"""Everything that only a GPU can show, in one command and at most eight minutes.

    python benchmarks/gpu.py                       # checks and speeds: gpu.json
    python benchmarks/gpu.py --parts candidates    # what might be faster, beside the step as it is
    python benchmarks/gpu.py --toy                 # the same code in seconds on a CPU; its numbers mean nothing

Needs PyTorch, timm, pandas, pyarrow and safetensors with what they need, and nothing else. Each part runs in a process
of its own, within its own time: one that fails or takes too long loses its open rows alone. The result is written
after each part, with the device, versions and the commit. `tools/gpu_rows.py gpu.json` makes rows of the
benchmarks' table of it.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Seconds that each part may take, in the order of their worth.
PARTS = {
    "training_128": 110,
    "checks": 110,
    "inference": 60,
    "switches": 100,
    "two_processes": 60,
    "classifiers": 70,
    "usual_way": 60,
    "harmonisation": 25,
    "views": 30,
    "training_256": 80,
    "training_512": 80,
}
CANDIDATES = {
    "as_it_is": 90,
    "cudnn_attention": 90,
    "bf16_residuals": 300,
    "gelu_epilogues": 150,
    "flex_attention": 120,
    "max_autotune": 300,
}
LIMITS = PARTS | CANDIDATES


class Rows:
    """Rows of one part, each on disk as soon as it is known."""

    def __init__(self, path: Path):
        self.path = path
        path.touch()

    def add(
        self, name: str, value: float, unit: str, target: str = "", met: bool | None = None
    ) -> None:
        """Add one measured value; `target` in words, `met` None where nothing is asked for."""
        row = dict(name=name, value=float(f"{value:.4g}"), unit=unit, target=target or None)
        row["met"] = None if met is None else bool(met)
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name:<66}{row['value']:>12,.4g} {unit}", flush=True)

    def read(self) -> list[dict]:
        """Give what there is; a last line that a killed process began is left out."""
        return [json.loads(line) for line in self.path.read_text().split("\n")[:-1]]


def within(command: list[str], seconds: float) -> tuple[str, str]:
    """Run a program for at most so many seconds; "done", "failed" or "out of time", and the end of what it said."""
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            status = "done" if running.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "out of time"
        # Its own children too, whatever became of it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        said.seek(0)
        return status, said.read()[-4000:]


def in_this_process(part: Callable[[Rows, bool], None], rows: Rows, toy: bool) -> tuple[str, str]:
    """Run a part here, for toys; as `within`, but without a limit."""
    try:
        part(rows, toy)
    except Exception:
        return "failed", traceback.format_exc()[-4000:]
    return "done", ""


def about(commit: str | None) -> dict:
    """Say what computes: device, driver, versions and the state of the code, which `commit` names without git."""
    facts: dict = {
        "device": "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
    }
    # In a process of its own, so that this one never holds the GPU.
    with contextlib.suppress(ValueError):
        facts |= json.loads(_said([sys.executable, __file__, "--device"]).split("\n")[-1])
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    facts["driver"] = _said(asked).split("\n")[0]
    facts["python"] = platform.python_version()
    for name in ("timm", "numpy", "pandas", "pyarrow", "safetensors"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    git = ["git", "-C", str(ROOT)]
    facts["commit"] = commit or _said([*git, "rev-parse", "--short", "HEAD"])
    changed = _said([*git, "status", "--porcelain", "--untracked-files=no"])
    facts["changed_files"] = len(changed.splitlines())
    return facts


def device() -> dict:
    """Say what PyTorch sees."""
    import torch

    if not torch.cuda.is_available():
        return {"device": "no GPU", "torch": torch.__version__}
    memory = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    facts = {"device": torch.cuda.get_device_name(), "memory_gib": memory}
    return facts | {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration, IndexError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).split(": ")[1]
    return platform.machine()


def _said(command: list[str]) -> str:
    """Give what a program says, or nothing where there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write(result: dict, path: Path) -> None:
    """Write the result, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(path)


def measure(names: list[str], out: Path, minutes: float, toy: bool, facts: dict) -> dict:
    """Run parts one after another, as long as the time lasts."""
    begun = time.monotonic()
    shown = ["python", "benchmarks/gpu.py", *sys.argv[1:]]
    result = {"command": " ".join(shown), "toy": toy, "about": facts, "parts": {}}
    for name in names:
        part_begun = time.monotonic()
        left = 60 * minutes - (part_begun - begun)
        limit = min(LIMITS[name], left)
        print(f"-- {name}, {max(0, limit):.0f} s", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows = Rows(Path(folder) / "rows.jsonl")
            if limit < 10:
                status, said = "no time left", ""
            elif toy:
                import gpu_parts

                status, said = in_this_process(gpu_parts.PARTS[name], rows, toy)
            else:
                command = [sys.executable, __file__, "--part", name, "--rows", str(rows.path)]
                status, said = within(command, limit)
            seconds = round(time.monotonic() - part_begun, 1)
            part = {"status": status, "seconds": seconds, "limit": limit, "rows": rows.read()}
            if status != "done":
                part["said"] = said
                print(f"{name}: {status}\n{said}", flush=True)
            elif not toy:
                print(said, flush=True)
        result["parts"][name] = part
        result["seconds"] = round(time.monotonic() - begun, 1)
        write(result, out)
    return result


def main() -> None:
    """Measure, or as a child measure one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="default gpu.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts, default 8")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), help="or 'candidates', or 'all'")
    parser.add_argument("--toy", action="store_true", help="small, in one process, on a CPU too")
    parser.add_argument("--commit", help="state of the code, where there is no git to ask")
    parser.add_argument("--device", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        import gpu_parts

        gpu_parts.PARTS[options.part](Rows(options.rows), False)
        return
    if options.device:
        print(json.dumps(device()))
        return
    groups = {"candidates": CANDIDATES, "all": LIMITS}
    names = [part for name in options.parts for part in groups.get(name, [name])]
    if unknown := set(names) - set(LIMITS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(LIMITS)}")
    facts = about(options.commit)
    if not options.toy and facts["device"] == "no GPU":
        parser.error("PyTorch sees no GPU here; --toy runs the same code small")
    result = measure(names, options.out, options.minutes, options.toy, facts)
    states = {name: part["status"] for name, part in result["parts"].items()}
    print(json.dumps(states, indent=1))
    print(f"{options.out}: {result['seconds']} s")
    sys.exit(any(status != "done" for status in states.values()))


if __name__ == "__main__":
    main()
