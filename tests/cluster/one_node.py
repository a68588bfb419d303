"""A Slurm cluster of one node on this machine, for as long as a test needs it.

A Slurm that is already there and answers is used as it is. Otherwise Debian's packages are installed,
configured and started; whatever was added is taken away again.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd")
CONFIG = Path("/etc/slurm")  # the executor plugin clears SLURM_CONF, so no other place will do

# Memory is claimed, not there: rules ask for what a GPU node has, and no job of a test takes it.
MARK = "# Written for a test of CODA, and of no use after it.\n"
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
MinJobAge=3600
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
SchedulerParameters=batch_sched_delay=0,bf_interval=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=200000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""


class NoSlurm(Exception):
    """Slurm cannot be had on this machine; the text says why."""


@contextmanager
def one_node() -> Iterator[str]:
    """Have a Slurm that answers: the one of this machine, or one that ends with the block.

    Yields
    ------
    str
        Its partition for jobs with a GPU.

    Raises
    ------
    NoSlurm
        If there is none and none can be installed.
    """
    if _answers():
        yield "gpu" if "gpu" in _said("sinfo", "-ho", "%R").split() else ""
        return
    if (CONFIG / "slurm.conf").exists() and MARK not in (CONFIG / "slurm.conf").read_text():
        raise NoSlurm(
            f"{CONFIG}/slurm.conf is there, but its Slurm does not answer (scontrol ping)"
        )
    with ExitStack() as undo:
        _install(undo)
        folder = Path(tempfile.mkdtemp(prefix="coda_slurm_"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        _configure(folder, undo)
        _start(folder, undo)
        # A job that was left would outlive the daemons.
        undo.callback(_end_jobs)
        yield "gpu"


def _install(undo: ExitStack) -> None:
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoSlurm("there is no Slurm here, and installing Debian's needs root and apt-get")
    _apt("update")
    what = ["--no-install-recommends", *PACKAGES]
    # What comes along goes again too, and nothing that was there before or that others install meanwhile.
    added = re.findall(r"^Inst (\S+)", _apt("install", "--simulate", *what).stdout, re.M)
    undo.callback(_apt, "purge", *added)
    done = _apt("install", *what)
    if done.returncode:
        reason = done.stderr.strip()[-300:]
        raise NoSlurm(f"apt-get could not install {', '.join(PACKAGES)}: {reason}")


def _apt(verb: str, *words: str) -> subprocess.CompletedProcess:
    command = ["apt-get", verb, "-y", "-o", "DPkg::Lock::Timeout=120", *words]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _configure(folder: Path, undo: ExitStack) -> None:
    """Write the configuration of one node; its two GPUs are twins of /dev/null."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    try:
        for number in range(2):
            os.mknod(folder / f"nvidia{number}", 0o20666, os.makedev(1, 3))
    except PermissionError as error:
        raise NoSlurm(f"a stand-in for a GPU cannot be made: {error}") from None
    if not CONFIG.exists():
        CONFIG.mkdir()
        undo.callback(shutil.rmtree, CONFIG, ignore_errors=True)
    host = socket.gethostname().split(".")[0]
    texts = {
        "slurm.conf": SLURM_CONF.format(host=host, folder=folder, cpus=os.cpu_count()),
        "gres.conf": f"Name=gpu File={folder}/nvidia[0-1] Flags=nvidia_gpu_env\n",
    }
    for name, text in texts.items():
        (CONFIG / name).write_text(MARK + text)
        undo.callback((CONFIG / name).unlink, missing_ok=True)


def _start(folder: Path, undo: ExitStack) -> None:
    """Start the daemons that do not run yet, and stop those again by their pids."""
    if not _works("munge", "-n"):
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        _daemon(["munged", "--foreground", "--force"], folder, undo, user="munge", group="munge")
        _await("munged", lambda: _works("munge", "-n"), folder)
    _daemon(["slurmctld", "-D"], folder, undo)
    _daemon(["slurmd", "-D"], folder, undo)
    _await("slurmd", lambda: _answers() and "idle" in _said("sinfo", "-ho", "%T"), folder)


def _daemon(command: list[str], folder: Path, undo: ExitStack, **who: str) -> None:
    bound = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        *command,
    ]  # ends with the tests, even if those are killed
    with open(folder / f"{command[0]}.log", "w") as log:
        process = subprocess.Popen(bound, stdout=log, stderr=log, start_new_session=True, **who)
    undo.callback(process.wait)
    undo.callback(process.terminate)


def _await(name: str, is_up: Callable[[], bool], folder: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_up():
        if time.monotonic() > deadline:
            told = (folder / f"{name}.log").read_text()[-500:]
            raise NoSlurm(f"{name} did not come up within {seconds} s: {told}")
        time.sleep(0.2)


def _end_jobs() -> None:
    subprocess.run(["scancel", "--me"], capture_output=True, check=False)
    deadline = time.monotonic() + 60
    while _said("squeue", "-h") and time.monotonic() < deadline:
        time.sleep(0.5)


def _answers() -> bool:
    return bool(shutil.which("scontrol")) and _works("scontrol", "ping")


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
